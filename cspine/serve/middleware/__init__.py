"""Middleware for every request: request id, API key, CORS, security headers, access log."""
