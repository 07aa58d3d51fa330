"""Claims about learning and data: each module tests one and prints JSON, kept in `results/`.

Run from the repository's root, as `python -m experiments.data.leaks`. `docs/benchmarks.md` lists
them. Experiments may import `benchmarks`, which never imports them.
"""
