"""The start: what begins the engine's load is imported before anything slow is."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "entry", ["import cspine.serve.cli", "from cspine.__main__ import *; build_parser('serve')"]
)
def test_what_begins_the_load_imports_neither_flask_nor_scipy(entry):
    begins = "import sys, cspine.serve.telemetry, cspine.serve.model_loader; print(*sys.modules)"
    code = f"{entry}\n{begins}"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = {name.partition(".")[0] for name in child.stdout.split()}
    assert "openvino" in modules
    assert not modules & {"flask", "scipy", "keras", "PIL"}
