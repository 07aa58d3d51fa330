"""Statistics that data, training and evaluation share."""
