"""Benchmarks of speed and memory. Each module prints JSON; `results/` keeps the published runs.

Run a module from the repository's root, for example `python -m benchmarks.serving`.
`docs/benchmarks.md` lists the modules and their results.
"""
