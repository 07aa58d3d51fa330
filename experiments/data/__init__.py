"""What data sets hold, and what a model that learned from them can claim."""
