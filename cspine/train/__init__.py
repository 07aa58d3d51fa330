"""From a data set to a published version in models/."""
