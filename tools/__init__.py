"""Programs that generate files: files that `cspine` ships, and stand-ins for pre-trained weights.

Run a program from the repository's root, for example `python -m tools.train_localiser`.
`docs/benchmarks.md` lists the programs. Tools may import `experiments`, but experiments never
import tools.
"""
