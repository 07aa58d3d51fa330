"""The package: one version, dependencies as the Pipfile has them, a wheel that serves."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import requests

import cspine
from predict_test import SAMPLE
from support.real_service import end_of, free_port, wait_until_ready

ROOT = Path(__file__).parents[1]
# An installation downloads about 0.5 GB.
INSTALLS = pytest.mark.timeout(1200)
PIPFILE = tomllib.loads((ROOT / "Pipfile").read_text())
CARD = json.loads((ROOT / "models" / "best.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd=ROOT):
    """What a command prints; where it fails, its own words."""
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(**settings):
    """The environment without what would lead a program to this source tree, or to a setting."""
    ours = ("CSPINE_", "PYTHONPATH", "KERAS_BACKEND")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | settings


def bounds(requirements):
    """Names and version bounds, as pip and the Pipfile write them, by name."""
    return dict(re.match(r"([\w.-]+)(.*)", one).groups() for one in requirements)


def pipfile_bounds(category):
    assert all(isinstance(bound, str) for bound in PIPFILE[category].values())
    return {name: bound.replace("*", "") for name, bound in PIPFILE[category].items()}


def test_what_serves_is_what_the_package_needs():
    assert bounds(PROJECT["dependencies"]) == pipfile_bounds("serve")


def test_what_trains_is_the_extra():
    extra, serve = bounds(PROJECT["optional-dependencies"]["train"]), pipfile_bounds("serve")
    assert not extra.keys() & serve.keys()
    assert serve | extra == pipfile_bounds("packages")


def find_imports(*folders):
    """The packages of other projects that the Python files below `folders` import."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    names |= {node.module for node in froms}
    own = {path.stem for folder in (".", "tests") for path in (ROOT / folder).iterdir()}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - own


@pytest.mark.parametrize(
    ("folders", "categories"),
    [
        (["cspine"], ["packages"]),
        (["cspine/serve", "cspine/predict", "cspine/fetch", "cspine/imaging"], ["serve"]),
        (["tests", "benchmarks", "experiments", "tools"], ["packages", "dev-packages"]),
    ],
)
def test_every_imported_package_is_declared(folders, categories):
    # atheris and cv2 are used only where they are installed, _typeshed by mypy alone.
    imported = find_imports(*folders) - {"atheris", "cv2", "_typeshed"}
    declared = {name for category in categories for name in PIPFILE[category]}
    owners = {
        name: {owner.lower().replace("_", "-") for owner in owners}
        for name, owners in importlib.metadata.packages_distributions().items()
    }
    missing = {name for name in imported if not declared & owners.get(name, set())}
    assert imported and not missing


def test_the_public_names_are_few():
    assert cspine.__all__ == ["__version__", "load"]
    assert PROJECT["dynamic"] == ["version"]


@pytest.mark.parametrize("command", [("-m", "cspine"), ("train.py",)], ids=" ".join)
def test_the_version_is_told(command):
    assert run(sys.executable, *command, "--version") == f"cspine {cspine.__version__}\n"


def test_a_model_is_loaded_and_asked_without_keras(tmp_path):
    (tmp_path / "slice.png").write_bytes(SAMPLE.read_bytes())
    code = (
        "import sys, cspine\n"
        "from pathlib import Path\n"
        "def keras(): return {'keras', 'tensorflow'} & sys.modules.keys()\n"
        "assert not keras() and 'numpy' not in sys.modules\n"
        "predictor = cspine.load('models', precision='f32')\n"
        "assert not keras()\n"
        "print(predictor.predict(Path(sys.argv[1]).read_bytes()).version)\n"
        "assert not keras()\n"
    )
    assert run(sys.executable, "-c", code, tmp_path / "slice.png") == f"{CARD['version']}\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is packed, since a build leaves files beside its source."""
    folder = tmp_path_factory.mktemp("source")
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "cspine", folder / "cspine", ignore=without)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    run(sys.executable, "-m", "pip", "wheel", source, *options)
    return next(folder.glob("cspine-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` of an environment of its own that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    look = [programs / "pip", "download", "--no-deps", "--dest", folder, "setuptools>=77"]
    done = subprocess.run(look, env=environment(), capture_output=True, text=True)
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"pip reaches no package index: {done.stderr.strip().splitlines()[-1]}")
    run(programs / "pip", "install", "--no-cache-dir", wheel)
    yield programs
    # Else the temporary folders of some runs are kept, at 0.6 GB each.
    shutil.rmtree(folder)


def test_the_wheel_holds_every_file_of_the_package(source, wheel):
    files = {str(path.relative_to(source)) for path in (source / "cspine").rglob("*.*")}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cspine/")}
    assert packed == files
    assert "cspine/py.typed" in packed


@INSTALLS
def test_the_installed_command_tells_its_version(installed, tmp_path):
    assert run(installed / "cspine", "--version", cwd=tmp_path) == f"cspine {cspine.__version__}\n"
    assert "tensorflow" not in run(installed / "pip", "list")


@INSTALLS
def test_the_installed_command_serves(installed, tmp_path):
    log, address = tmp_path / "log.txt", f"127.0.0.1:{free_port()}"
    settings = environment(CSPINE_MODEL_DIR=str(ROOT / "models"), CSPINE_LISTEN=address)
    with log.open("wb") as output:
        service = subprocess.Popen(
            [installed / "cspine", "serve"],
            cwd=tmp_path,
            env=settings,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_ready(service, f"http://{address}", log)
        files = {"file": SAMPLE.read_bytes()}
        answer = requests.post(f"http://{address}/predict", files=files, timeout=60).json()
        page = requests.get(f"http://{address}/", timeout=20).text
        service.send_signal(signal.SIGTERM)
    finally:
        status = end_of(service)
    assert status == 0, log.read_text()
    assert answer["prediction"] in ("fracture", "normal", "uncertain")
    assert answer["model"]["version"] == CARD["version"]
    assert "<html" in page


@INSTALLS
def test_it_installs_in_place(installed, source, tmp_path):
    # The last of its environment, whose wheel it replaces.
    run(installed / "pip", "install", "--no-deps", "--editable", source)
    place = run(installed / "python", "-c", "import cspine; print(cspine.__file__)", cwd=tmp_path)
    assert Path(place.strip()) == source / "cspine" / "__init__.py"
    assert run(installed / "cspine", "--version", cwd=tmp_path) == f"cspine {cspine.__version__}\n"
