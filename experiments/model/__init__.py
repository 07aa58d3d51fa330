"""Experiments on trained models: accuracy, abstention, agreement of formats, training settings."""
