"""Package of the shapes and tissues of the synthetic neck."""
