"""Experiments that test claims about learning and data. Each module tests one claim.

A module prints JSON; `results/` keeps the published runs. Run a module from the repository's root,
for example `python -m experiments.data.leaks`. `docs/benchmarks.md` lists the modules and their
results. Experiments may import `benchmarks`, but benchmarks never import experiments.
"""
