"""The HTTP service: the only room that knows HTTP."""
