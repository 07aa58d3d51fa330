"""TrainConfig: flags, file, defaults, and errors that name the value."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cspine.core.cli_flags import FLAG_GROUPS, build_train_parser, parse_config
from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig, parse_duration, parse_requirement

ROOT = Path(__file__).parents[2]


def test_defaults_without_arguments():
    config = parse_config([])
    assert config == TrainConfig()
    assert config.seen_architectures() == ("cnn",)
    assert parse_config(["--data", "x"]).seen_architectures()[1] == "resnet50v2"


def test_a_config_built_directly_has_its_fields_types():
    config = TrainConfig(batch_size="16", architectures="cnn, xception")
    assert config.batch_size == 16
    assert config.seen_architectures() == ("cnn", "xception")


def test_at_most_twenty_flags_all_with_help():
    flags = [name for group in FLAG_GROUPS.values() for name in group]
    assert len(flags) + 1 <= 20
    assert set(flags) < {spec.name for spec in fields(TrainConfig)}
    assert all(spec.metadata["help"] for spec in fields(TrainConfig))
    assert "--time-limit" in build_train_parser().format_help()


def test_flags_are_cast():
    words = "--architectures cnn xception --time-limit 10m --require auroc=0.9 --require brier=1"
    config = parse_config([*words.split(), "--epochs", "3", "--controls"])
    assert config.architectures == ("cnn", "xception")
    assert (config.time_limit, config.epochs, config.controls) == (600, 3, True)
    assert config.require == (("auroc", 0.9), ("brier", 1.0))


def test_flags_go_before_the_file(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('seed = 7\nepochs = 5\n[decide]\nconformal_alpha = 0.2\ntime_limit = "2m"\n')
    config = parse_config(["--config", str(path), "--epochs", "9"])
    assert (config.seed, config.epochs, config.conformal_alpha) == (7, 9, 0.2)
    assert config.time_limit == 120


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--epochs", "0"], r"`epochs` must be a whole number from 1 to 10000\. Received: '0'"),
        (["--epochs", "many"], r"`epochs` must be a whole number from .* Received: 'many'"),
        (["--view", "side"], r"`view` must be one of vertebra, slice\. Received: 'side'"),
        (["--architectures", "vgg"], "`architectures` must be one of cnn"),
        (["--require", "auroc"], r"`require` must be METRIC=NUMBER\. Received: 'auroc'"),
        (["--require", "auroc=nan"], r"`require` must be METRIC=NUMBER"),
        (["--no-such-flag"], "--no-such-flag"),
        (["--config", "missing.toml"], r"`--config` must be a readable file"),
    ],
)
def test_bad_values_are_named(arguments, text):
    with pytest.raises(ConfigError, match=text):
        parse_config(arguments)


def test_unknown_setting_in_the_file_is_named(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("learning_speed = 7\n")
    with pytest.raises(ConfigError, match=r"Did you mean `learning_rate`\? .*'learning_speed'"):
        parse_config(["--config", str(path)])


def test_all_faults_of_file_and_flags_are_listed(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('dropuot = 0.1\nwarmup = 3\npatients = "many"\n[table]\naugment = "false"\n')
    with pytest.raises(ConfigError) as caught:
        parse_config(["--config", str(path), "--seed", "-1", "--require", "auroc"])
    assert str(caught.value).splitlines() == [
        "A setting must have a known name. Did you mean `dropout`? Received: 'dropuot'",
        "`warmup` must be a number from 0.0 to 0.9. Received: 3",
        "`patients` must be a whole number from 4 to 100000. Received: 'many'",
        "`augment` must be true or false. Received: 'false'",
        "`seed` must be a whole number from 0 to 2147483647. Received: '-1'",
        "`require` must be METRIC=NUMBER. Received: 'auroc'",
    ]


def test_all_faults_of_a_config_built_directly_are_listed():
    with pytest.raises(ConfigError, match=r"(?s)`epochs` must be .*\n`out` must be "):
        TrainConfig(epochs=0, out="")
    assert TrainConfig(require=(("auroc", 0.9),), time_limit=90).time_limit == 90


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("5", 5)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3s", "0s", "1.5h"])
def test_no_durations(text):
    with pytest.raises(ConfigError, match="`time_limit` must be like 90s, 10m or 2h"):
        parse_config([f"--time-limit={text}"])


@pytest.mark.parametrize("text", ["recall=0.9", "Sensitivity = 0.9"])
def test_recall_and_sensitivity_are_one_figure(text):
    assert parse_requirement(text) == ("recall", 0.9)


@pytest.mark.parametrize("value", ["1.7", "true", "inf"])
def test_no_whole_number_in_the_file_is_rounded(tmp_path, value):
    path = tmp_path / "c.toml"
    path.write_text(f"epochs = {value}\n")
    with pytest.raises(ConfigError, match="`epochs` must be a whole number"):
        parse_config(["--config", str(path)])


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.stem)
def test_every_kept_configuration_is_read(path):
    assert parse_config(["--config", str(path)]).note
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for part in ("# Command: ", "# Time: ", "# Score: "):
        assert any(line.startswith(part) for line in head)
