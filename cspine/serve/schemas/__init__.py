"""Readers of requests and tensors, and writers of responses."""
