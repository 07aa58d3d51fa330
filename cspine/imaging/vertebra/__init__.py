"""Find the vertebra in an axial slice."""
