"""The Waitress server with deadlines, eviction and early refusals; it imports no route."""
