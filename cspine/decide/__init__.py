"""From a logit to an answer, with NumPy only: training fits each part, serving applies it."""
