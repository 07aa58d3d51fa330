"""Bytes to pixels: decoding, the vertebra finder, and the one preprocessing of both arms."""
