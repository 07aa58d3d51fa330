"""Image decoding, the vertebra finder, and the preprocessing that both arms share."""
