"""Model files on disk: weights, card, signature, kept versions."""
