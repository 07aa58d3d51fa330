"""Programs that make files: what `cspine` ships, and stand-ins for pre-trained weights.

Run from the repository's root, as `python -m tools.train_localiser`. `docs/benchmarks.md` lists
them. Tools may import `experiments`, which never imports them.
"""
