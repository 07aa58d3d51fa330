"""Fit one network: batches, augmentation, checkpoints, trainer."""
