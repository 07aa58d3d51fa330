"""Another model takes the old one's place at once or not at all, and the folder is watched."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cspine.core.errors import ArtifactError, ConfigError
from cspine.core.serve_settings import ServeSettings
from cspine.model.store.registry import publish_version
from cspine.serve import hot_reload as models_module
from cspine.serve.hot_reload import ModelManager
from cspine.serve.model_loader import open_models, read_public_key, start_loading
from cspine.serve.telemetry import Metrics
from support.service_fakes import FakePredictor
from support.tiny_model import build_tiny_model
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(models_module, "WATCH_S", 0.01)


def test_a_refused_model_leaves_the_old_one(caplog):
    def refuse(version):
        raise ArtifactError("damaged")

    refused = []
    holder = ModelManager(FakePredictor("a" * 12), refuse, on_refusal=lambda: refused.append(1))
    with pytest.raises(ArtifactError, match="damaged"):
        holder.reload()
    assert holder.current.version == "a" * 12
    assert refused == [1]
    assert "the old model stays: damaged" in caplog.text


def test_a_model_that_was_handed_in_cannot_be_changed():
    with pytest.raises(ArtifactError, match="from a folder"):
        ModelManager(FakePredictor()).reload()


@pytest.mark.parametrize("failure", [ArtifactError("bad"), RuntimeError("odd"), OSError("disk")])
def test_the_watch_reloads_survives_failures_and_ends(quick, failure):
    stamp, outcomes = [1], [failure, FakePredictor("b" * 12)]

    def load(version):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    holder = ModelManager(FakePredictor("a" * 12), load, lambda: stamp[0], seen=1)
    ending = threading.Event()
    thread = holder.watch(ending)
    stamp[0] = None  # the folder is away for a while
    # A new card, whose load fails: the old model must go on.
    stamp[0] = 2
    wait_for(lambda: len(outcomes) == 1)
    assert holder.current.version == "a" * 12
    stamp[0] = 3
    wait_for(lambda: holder.current.version == "b" * 12)
    ending.set()
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_a_published_model_is_noticed_and_a_kept_one_can_come_back(
    quick, tiny_models, tmp_path, neck_png
):
    folder = shutil.copytree(tiny_models, tmp_path / "models")
    settings, metrics = ServeSettings(model_dir=str(folder), precision="f32"), Metrics()
    holder = open_models(settings, metrics)
    first = holder.current
    ending = threading.Event()
    thread = holder.watch(ending)
    build_tiny_model(folder, seed=1)
    wait_for(lambda: holder.current is not first, 60)
    assert holder.current.version != first.version
    # Who still holds the old predictor gets its answer.
    assert first.predict(neck_png).version == first.version
    assert holder.reload(first.version).version == first.version
    assert 'cspine_reloads_total{result="swapped"} 2.0' in metrics.render().decode()
    ending.set()
    thread.join(timeout=60)


def test_what_was_refused_does_not_come_back_after_a_rollback(quick, monkeypatch):
    monkeypatch.setattr(models_module, "RETRY_S", 0.05)
    outcomes = {None: [ArtifactError("no memory")], "a" * 12: [FakePredictor("a" * 12)]}
    loaded = []

    def load(version):
        loaded.append(version)
        outcome = outcomes[version].pop(0) if outcomes[version] else FakePredictor("b" * 12)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    holder = ModelManager(FakePredictor("c" * 12), load, lambda: 2, seen=1)
    ending = threading.Event()
    thread = holder.watch(ending)
    wait_for(lambda: loaded == [None])
    holder.reload("a" * 12)
    time.sleep(0.2)  # several times the wait before another try
    ending.set()
    thread.join(timeout=60)
    assert holder.current.version == "a" * 12 and loaded == [None, "a" * 12]


def publish_bad(folder):
    """A version whose self-test no network passes, published as the newest."""
    run = shutil.copytree(
        folder, folder.with_name("bad"), ignore=shutil.ignore_patterns("versions")
    )
    card = json.loads((run / "best.json").read_text())
    card["self_test"] = {"images": 1}
    (run / "best.json").write_text(json.dumps(card))
    return publish_version(run, folder)


def test_a_bad_card_does_not_undo_a_rollback(tiny_models, tmp_path):
    folder = shutil.copytree(tiny_models, tmp_path / "models")
    settings = ServeSettings(model_dir=str(folder), precision="f32")
    holder = open_models(settings, Metrics())
    first = holder.current.version
    build_tiny_model(folder, seed=1)
    assert holder.reload().version != first and holder.reload(first).version == first
    (folder / "best.json").write_text('{"garbage":')
    with pytest.raises(ArtifactError, match="must hold a model"):
        holder.reload()
    assert holder.current.version == first


def test_a_start_finds_an_older_model_where_the_newest_fails(tiny_models, tmp_path, caplog):
    folder, metrics = tmp_path / "models", Metrics()
    shutil.copytree(tiny_models, folder)
    build_tiny_model(folder, seed=1)
    good = open_models(ServeSettings(model_dir=str(folder), precision="f32"), metrics).current
    bad = publish_bad(folder)
    assert bad == good.version  # the weights are the same, and so is the name
    older = open_models(ServeSettings(model_dir=str(folder), precision="f32"), metrics).current
    assert older.version != bad and "is served instead" in caplog.text
    assert 'cspine_reloads_total{result="refused"} 1.0' in metrics.render().decode()


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), MemoryError()])
def test_whatever_stops_a_load_on_demand_is_counted_and_the_old_one_stays(failure, caplog):
    def fail(version):
        raise failure

    refused = []
    holder = ModelManager(FakePredictor("a" * 12), fail, on_refusal=lambda: refused.append(1))
    with pytest.raises(type(failure)):
        holder.reload()
    assert (holder.current.version, refused) == ("a" * 12, [1])
    assert "the old model stays" in caplog.text


def test_a_load_is_answered_before_the_new_model_is_hastened(quick):
    old, new, going = FakePredictor("a" * 12), FakePredictor("b" * 12), threading.Event()
    hastened = []
    old.compile_low_latency = lambda: hastened.append("a")
    new.compile_low_latency = lambda: (going.wait(10), hastened.append("b"))
    holder, ending = ModelManager(old, lambda version: new), threading.Event()
    thread = holder.watch(ending)
    wait_for(lambda: hastened == ["a"])
    assert holder.reload() is holder.current is new
    assert hastened == ["a"]
    going.set()
    wait_for(lambda: hastened == ["a", "b"])
    ending.set()
    thread.join(timeout=60)
    assert not thread.is_alive() and hastened == ["a", "b"]


def test_a_load_that_began_early_is_completed(tiny_models, neck_png):
    settings = ServeSettings(model_dir=str(tiny_models), precision="f32")
    early = start_loading(settings)
    holder = open_models(settings, Metrics(), early)
    assert holder.current.engine is early.result().engine
    assert holder.current.predict(neck_png).version == early.result().files.version


def test_an_early_load_keeps_its_error_for_who_asks(tmp_path):
    early = start_loading(ServeSettings(model_dir=str(tmp_path)))
    with pytest.raises(ArtifactError, match="must hold a model"):
        early.result()


def test_the_early_load_waits_for_no_slow_import():
    code = (
        "import sys, cspine.serve.model_loader; "
        "sys.exit(str({'flask', 'scipy', 'keras', 'PIL'} & sys.modules.keys() or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_a_key_file_that_holds_no_key_is_named(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text("no key")
    with pytest.raises(ConfigError, match=r"Ed25519 public key\. Received: .*key\.pem"):
        read_public_key(path)
