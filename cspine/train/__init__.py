"""Training: from a data set to a published version in models/."""
