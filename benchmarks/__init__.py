"""Speed and memory: each module measures one thing and prints JSON, kept in `results/`.

Run from the repository's root, as `python -m benchmarks.serving`. `docs/benchmarks.md` lists them.
"""
