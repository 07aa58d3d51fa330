"""`python -m cspine`: a wrong command line is one line on stderr and exit code 2."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

import demo
import healthcheck
from cspine.__main__ import COMMANDS, build_parser, main
from cspine.core.cli_flags import parse_config
from cspine.core.serve_settings import ServeSettings
from cspine.imaging.decode import decode_image
from cspine.serve.cli import read_flags
from predict_test import SAMPLE, serve_slice

ROOT = Path(__file__).parents[1]
# What a command cannot go without.
REQUIRED = {"evaluate": ["data"], "predict": ["a.png"], "sign": ["--key", "key.pem"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "cspine: The following arguments are required: COMMAND"),
        (["bogus"], "cspine: Argument COMMAND: invalid choice: 'bogus'"),
        (["train", "--bogus"], "cspine train: Unrecognized arguments: --bogus"),
        (["evaluate", "nowhere"], "cspine evaluate: `data` must be a folder"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments, said, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_registered_by_its_room(command):
    assert build_parser(command).parse_args([command, *REQUIRED.get(command, ())]).run


def test_every_room_with_commands_is_in_the_table():
    rooms = {path.parent.name for path in (ROOT / "cspine").glob("*/cli.py")}
    assert rooms == {room for room, _ in COMMANDS.values()}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_needs_no_room_imports_none(option):
    code = (
        "import sys; from cspine.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, option]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert not {"numpy", *(f"cspine.{package}" for package, _ in COMMANDS.values())} & set(modules)
    assert "cspine.core.cli_flags" in modules


def test_the_health_check_imports_the_standard_library_alone():
    code = (
        "import sys; before = set(sys.modules); import healthcheck\n"
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - before})"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"healthcheck"}
    host, port = ServeSettings().listen
    assert f"{host}:{port}" == healthcheck.LISTEN


def test_the_demonstration_trains_with_the_settings_of_its_file(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: calls.append(command))
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path), "--patients", "20"])
    demo.train(demo.parse_arguments())
    given = parse_config(calls[0][2:])
    kept = parse_config(["--config", str(ROOT / "configs" / "quick.toml")])
    assert given == replace(kept, patients=20, out=given.out)


def test_a_reader_that_has_seen_enough_ends_the_command(tmp_path):
    names = "".join(f"train/fracture/CSFDV1B10 ({n}).png\n" for n in range(1, 400)) * 2
    (tmp_path / "names.txt").write_text(names)
    command = [sys.executable, "-m", "cspine", "audit", "--names", tmp_path / "names.txt"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=ROOT) as audit:
        audit.stdout.close()
        assert audit.stderr.read() == b""
    assert audit.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
def test_the_smoke_test_serves_its_slice_where_it_is_told(listen):
    if listen.startswith("[") and not has_ipv6_loopback():
        pytest.skip("no IPv6 on this machine")
    with serve_slice(b"a picture", listen) as url:
        assert url.startswith(f"http://{listen[:-1]}")
        assert requests.get(url, timeout=10).content == b"a picture"


def test_the_smoke_test_needs_neither_the_simulator_nor_pydicom():
    code = (
        "import sys, predict_test; sys.exit(str({'cspine', 'pydicom'} & sys.modules.keys() or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_the_smoke_tests_slice_is_known_to_be_synthetic():
    assert decode_image(SAMPLE.read_bytes()).is_synthetic


def test_a_demo_whose_port_is_taken_ends_before_it_trains(monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr(demo, "SLICES", address)
        monkeypatch.setattr(sys, "argv", ["demo.py"])
        assert demo.main() == 1
    assert f"Received: {address} (Address already in use)" in capsys.readouterr().err


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_asks_where_the_service_listens(status, code, answering):
    # A proxy that nobody listens at: it must not be asked.
    environment = os.environ | {"CSPINE_LISTEN": answering(status), "http_proxy": "127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "healthcheck.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr


@pytest.fixture
def answering():
    """A function that answers every GET with a status, or not at all (None); gives the address."""
    servers = []

    def start(status):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                assert self.path == "/health/ready"
                self.send_response(status)
                self.end_headers()

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        address = f"127.0.0.1:{server.server_port}"
        if status is None:
            server.server_close()
            return address
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return address.replace("127.0.0.1", "0.0.0.0")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


SERVE = [("predict_flask.py",), ("-m", "cspine", "serve")]


def run_serve(command, *flags, **environment):
    return subprocess.run(
        [sys.executable, *command, *flags],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "openvino", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", SERVE, ids=" ".join)
def test_the_help_of_the_service_lists_every_setting_and_starts_nothing(command):
    done = run_serve(command, "--help")
    assert done.returncode == 0
    for spec in fields(ServeSettings):
        assert f"CSPINE_{spec.name.upper()} (" in done.stdout
    assert "CSPINE_LISTEN (127.0.0.1:9696)" in done.stdout
    assert "exit codes:" in done.stdout and "example:" in done.stdout


@pytest.mark.parametrize("command", SERVE, ids=" ".join)
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--prot", "3"), "Did you mean --port?"),
        (("models",), "Unrecognized arguments: models"),
        (("--port", "many"), "`CSPINE_LISTEN` must be host:port. Received: '127.0.0.1:many'"),
        (("--model-dir", "nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_of_the_service_are_one_line(command, flags, said):
    done = run_serve(command, *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_flags_win_over_variables():
    given = {"CSPINE_LISTEN": "0.0.0.0:80", "CSPINE_MODEL_DIR": "a", "OTHER": "kept"}
    changed = read_flags(["--host", "::1", "--port", "8080", "--model-dir", "b"], given)
    assert changed == {"CSPINE_LISTEN": "[::1]:8080", "CSPINE_MODEL_DIR": "b", "OTHER": "kept"}
    assert read_flags(["--port", "1"], given)["CSPINE_LISTEN"] == "0.0.0.0:1"
    assert read_flags(["--host", "h"], {})["CSPINE_LISTEN"] == "h:9696"
    assert read_flags([], given) == given


@pytest.mark.parametrize("command", SERVE, ids=" ".join)
def test_a_port_that_is_taken_is_one_line(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_serve(command, CSPINE_LISTEN=address)
    assert done.returncode == 2
    assert "`CSPINE_LISTEN`" in done.stderr and address in done.stderr
    assert "Traceback" not in done.stderr
