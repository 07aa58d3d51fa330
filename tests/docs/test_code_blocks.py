"""Every code block of README and docs is run or parsed, or says why not."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from cspine.__main__ import build_parser
from cspine.core.cli_flags import build_train_parser
from predict_test import SAMPLE, serve_slice
from support.markdown import PAGES, ROOT, Block, read_blocks
from support.real_service import free_port, running

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
RUN = [block for block in BLOCKS if block.reason is None]
NOT_RUN = [block for block in BLOCKS if block.reason is not None]
PARSERS = {"json": json.loads, "toml": tomllib.loads}
# Not code: a tree or what a program printed; Sphinx's own blocks, which its build checks.
TEXT = ("text", "{image}", "{toctree}")
# The names under which blocks use the sample slice, and what they print of it.
FILES = ("slice.png", "a.png", "b.png")
ANSWER = r"\b(fracture|normal|uncertain)\b"
CI = bool(os.environ.get("CI"))


def of_languages(*names):
    return pytest.mark.parametrize(
        "block", [one for one in RUN if one.language in names], ids=lambda one: one.place
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder as the reader's: the repository's files, images, a data set and a DICOM series."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("cspine", "configs", "tools", "predict_flask.py", "predict_test.py", "train.py"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "configuration.md", folder / "docs")
    (folder / "models").mkdir()
    for name in ("best.h5", "best.json", "best_seen.txt"):
        shutil.copy(ROOT / "models" / name, folder / "models")
    for name in FILES:
        shutil.copy(SAMPLE, folder / name)
    write = [sys.executable, "-m", "cspine", "phantom", "--slices", "8", "--patients"]
    subprocess.run([*write, "6", "data"], cwd=folder, check=True)
    subprocess.run([*write, "1", "--layout", "dicom", "series"], cwd=folder, check=True)
    shutil.copy(next((folder / "series").rglob("*.dcm")), folder / "slice.dcm")
    (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A running service that may fetch one picture, by what a page's addresses become."""
    place = f"127.0.0.1:{free_port()}"
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with serve_slice(SAMPLE.read_bytes(), place), running(log, fetch_allow=place) as real:
        smoke_test = "python predict_test.py"
        yield SimpleNamespace(
            url=real.url,
            replaced={
                "https://example.org": f"http://{place}",
                "http://127.0.0.1:9696": real.url,
                "127.0.0.1:9696": f"127.0.0.1:{real.port}",
                smoke_test: f"{smoke_test} --server {real.url} --listen 127.0.0.1:0",
            },
        )


@pytest.fixture
def run(workplace, service):
    """Run a command on a block's code, in the reader's folder, against the running service."""

    def start(command, code):
        for shown, real in service.replaced.items():
            code = code.replace(shown, real)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "CURL_HOME": str(workplace)}
        done = subprocess.run(
            [*command, code], cwd=workplace, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return start


def test_every_block_names_a_language_that_is_run_or_parsed():
    known = ("sh", "python", "js", *PARSERS, *TEXT)
    assert [block for block in BLOCKS if block.language not in known] == []
    assert {block.language for block in RUN} >= {"sh", "python", "js", "json", "toml"}


@of_languages("sh")
def test_a_shell_block_runs(block, run):
    if "curl" in block.code and not CI and not shutil.which("curl"):
        pytest.skip("this block needs curl")
    run(("bash", "-euo", "pipefail", "-c"), block.code)


@of_languages("python")
def test_a_python_block_runs(block, run):
    assert re.search(ANSWER, run(("python", "-c"), block.code))


@of_languages("js")
def test_a_javascript_block_runs(block, run, service):
    if shutil.which("node"):
        printed = run(("node", "--input-type=module", "--eval"), block.code)
    else:
        printed = run_in_chromium(block.code, service)
    assert re.search(ANSWER, printed)


def run_in_chromium(code, service):
    """What the code prints on the service's own page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium and not CI:
        pytest.skip("this block needs node or Chromium")
    for shown, real in service.replaced.items():
        code = code.replace(shown, real)
    printed = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: printed.append(message.text))
        page.goto(service.url)
        page.evaluate(f"(async () => {{ {code} }})()")
        browser.close()
    return "\n".join(printed)


@of_languages(*PARSERS)
def test_a_data_block_is_parsed(block):
    assert PARSERS[block.language](block.code)


def test_the_shown_answer_has_the_fields_of_an_answer():
    document = json.loads((ROOT / "cspine/serve/routes/openapi.json").read_text())
    fields = document["components"]["schemas"]["Prediction"]["required"]
    shown = [json.loads(block.code) for block in BLOCKS if block.code.startswith('{"prediction"')]
    assert len(shown) == 2
    assert all(list(one) == fields for one in shown)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_a_block_that_is_not_run_says_why_and_its_commands_exist(block: Block):
    assert len(block.reason) > 20
    for path in re.findall(r"tests/[\w/]+\.py|\.ci/\w+", block.reason):
        assert (ROOT / path).is_file(), path
    for line in block.code.replace("\\\n", " ").splitlines():
        check_command(shlex.split(line, comments=True))


def check_command(words):
    """Parse a command of ours without running it; the others are left alone."""
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:2] == ["python", "train.py"]:
        build_train_parser().parse_args(words[2:])
    elif words[:3] == ["python", "-m", "cspine"]:
        build_parser().parse_args(words[3:])
    elif words[:1] == ["make"]:
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_runs_exists(page):
    modules = set(re.findall(r"python -m ([\w.]+)", page.read_text()))
    assert [name for name in modules if find_spec(name) is None] == []
    commands = set(re.findall(r"python -m cspine (\w+)", page.read_text()))
    parser = build_parser()
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([command, "--help"])
        assert stop.value.code == 0
