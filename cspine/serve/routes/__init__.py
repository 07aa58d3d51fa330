"""HTTP routes, with one file per topic."""
