"""The synthetic CT of the neck, with the truth known."""
