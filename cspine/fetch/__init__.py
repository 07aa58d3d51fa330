"""Fetch images from URLs, safely."""
