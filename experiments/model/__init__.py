"""Experiments on trained models: accuracy, abstention, numerical agreement, training settings."""
