"""The container, built for real from the Dockerfile, then run read-only, without any privilege.

The base image is a stand-in made by debootstrap, since Debian bookworm has Python 3.11. Only the
build needs a network, for the packages; without the tools (buildah, debootstrap, unshare) or root
it is skipped, but under CI it fails.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import wait_for

ROOT = Path(__file__).parents[1]
TOOLS = ("buildah", "debootstrap", "unshare", "setpriv")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PORT = 9698
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        not os.environ.get("CI")
        and (bool(MISSING) or sys.platform != "linux" or os.geteuid() != 0),
        reason=f"a container build needs root and {', '.join(TOOLS)}",
    ),
]


class Buildah:
    """buildah with a storage of its own: plain folders (vfs), so that nothing stays mounted."""

    def __init__(self, storage: Path):
        # With --root, buildah heeds the option only, not STORAGE_DRIVER.
        self.options = ["--storage-driver=vfs", f"--root={storage / 'root'}"]
        self.options += [f"--runroot={storage / 'run'}"]
        self.environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *self.options, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory) -> Iterator[Buildah]:
    buildah = Buildah(tmp_path_factory.mktemp("storage"))
    yield buildah
    buildah("umount", "--all")
    buildah("rm", "--all")
    buildah("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base_image(buildah: Buildah, tmp_path_factory) -> str:
    """A stand-in for python:3.11-slim that trusts what this machine trusts."""
    tree = tmp_path_factory.mktemp("base") / "tree"
    command = ["debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    subprocess.run([*command, "bookworm", str(tree)], check=True, capture_output=True)
    for cache in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
        shutil.rmtree(tree / cache, ignore_errors=True)
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, tree / CERTIFICATES.relative_to("/"))
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(tree), "/")
    buildah("config", "--env", f"PIP_CERT={CERTIFICATES}", container)
    buildah("commit", "--quiet", "--rm", container, "localhost/standin")
    shutil.rmtree(tree)
    return "localhost/standin"


@pytest.fixture(scope="module")
def image(buildah: Buildah, base_image: str) -> str:
    buildah(
        "bud", "--format", "docker", "--build-arg", f"BASE={base_image}", "--tag", "cspine", "."
    )
    return "cspine"


@pytest.fixture(scope="module")
def config(buildah: Buildah, image: str) -> dict:
    return json.loads(buildah("inspect", "--type", "image", image))["Docker"]["config"]


@pytest.fixture(scope="module")
def root_file_system(buildah: Buildah, image: str) -> Path:
    container = buildah("from", image)
    return Path(buildah("mount", container))


def start_unprivileged(
    root: Path, command: list[str], environment: dict[str, str], log: Path
) -> subprocess.Popen:
    """Run `command` in `root`: read-only, as user 10001, no capability, no new privilege."""
    script = (
        'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && '
        'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && '
        'exec chroot "$0" setpriv --reuid 10001 --regid 10001 '
        '--clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"'
    )
    environment |= {"CSPINE_LISTEN": f"127.0.0.1:{PORT}", "CSPINE_FETCH_ALLOW": "127.0.0.1:9697"}
    unshare = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*unshare, str(root), *command],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def inside(config: dict, command: list[str]) -> list[str]:
    """`command` as the image starts it: in its working directory."""
    return ["sh", "-c", f"cd {config['WorkingDir']} && exec {' '.join(command)}"]


def wait_until_ready(process: subprocess.Popen, log: Path) -> None:
    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health/ready", timeout=2).close()
        except OSError:
            return False
        return True

    wait_for(is_ready, 60, lambda: "not ready within 60 s: " + log.read_text())


@pytest.fixture(scope="module")
def service(root_file_system: Path, config: dict, tmp_path_factory):
    environment = dict(setting.split("=", 1) for setting in config["Env"])
    log = tmp_path_factory.mktemp("service") / "log.txt"
    process = start_unprivileged(
        root_file_system, inside(config, config["Entrypoint"]), environment, log
    )
    try:
        wait_until_ready(process, log)
        yield process
    finally:
        # A new user loses unshare's --kill-child.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_image_names_its_user_and_its_health_check(config: dict):
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "healthcheck.py"]
    assert config["Entrypoint"] == ["python", "predict_flask.py"]


def test_the_image_is_small_and_holds_no_tensorflow(root_file_system: Path):
    files = [
        path for path in root_file_system.rglob("*") if not path.is_symlink() and path.is_file()
    ]
    megabytes = sum(path.lstat().st_size for path in files) / 1e6
    # For people: beside the page's screenshot.
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "image-size.txt").write_text(f"{megabytes:.0f} MB with its base\n")
    assert megabytes <= 900
    assert not list(root_file_system.glob("opt/cspine/venv/lib/*/site-packages/tensorflow*"))


def test_it_answers_read_only_and_unprivileged(service: subprocess.Popen):
    command = [sys.executable, "predict_test.py", "--server", f"http://127.0.0.1:{PORT}"]
    done = subprocess.run(
        [*command, "--require-url"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert service.poll() is None


def test_its_health_check_finds_it_ready(
    service: subprocess.Popen, root_file_system: Path, config: dict, tmp_path: Path
):
    environment = dict(setting.split("=", 1) for setting in config["Env"])
    # A proxy, as many hosts have one, must not be asked for the container's own service.
    environment["http_proxy"] = "http://127.0.0.1:9"
    command = inside(config, config["Healthcheck"]["Test"][1:])
    check = start_unprivileged(root_file_system, command, environment, tmp_path / "log.txt")
    assert check.wait(30) == 0, (tmp_path / "log.txt").read_text()
