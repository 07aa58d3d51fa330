"""What every request passes: request id, API key, CORS, security headers, access log."""
