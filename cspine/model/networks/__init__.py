"""Architectures as Keras networks, and their pre-trained weights."""
