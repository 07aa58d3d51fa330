"""The start: what begins the engine's load is imported before anything slow is."""

import subprocess
import sys


def test_what_begins_the_load_imports_neither_flask_nor_scipy():
    code = "import sys, cspine.serve.model_loader, cspine.serve.telemetry; print(*sys.modules)"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # fmt: skip
    modules = {name.partition(".")[0] for name in child.stdout.split()}
    assert "openvino" in modules
    assert not modules & {"flask", "scipy", "keras", "PIL"}
