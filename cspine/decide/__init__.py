"""From a logit to an answer: numpy only; each part a fit (training) and an apply (serving)."""
