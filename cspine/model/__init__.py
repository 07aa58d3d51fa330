"""Networks, their files, the engine that runs them and the heat map that explains them."""
