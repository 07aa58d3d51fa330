"""cspine: trains and serves a classifier of cervical-spine CT images. Not a medical device.

The rooms are the pipeline: data → model → train → evaluate → export → predict → serve. Each imports
only lower rooms; `tests/test_architecture.py` holds that law.
"""

__version__ = "0.1.0"
