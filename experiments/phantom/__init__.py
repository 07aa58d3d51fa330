"""The phantom beside real slices and beside physics, and how well the vertebra is found on it."""
