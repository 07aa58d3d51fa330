"""Requests and tensors as the protocols write them."""
