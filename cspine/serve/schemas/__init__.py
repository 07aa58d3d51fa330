"""Requests, tensors and responses in the forms of the protocols."""
