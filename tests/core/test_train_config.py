"""TrainConfig: flags, file, defaults, and errors that name the value."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cspine.core.cli_flags import build_train_parser, parse_config
from cspine.core.errors import ConfigError
from cspine.core.train_config import TrainConfig

ROOT = Path(__file__).parents[2]


def test_defaults_without_arguments():
    config = parse_config([])
    assert config == TrainConfig()
    assert config.seen_architectures() == ("cnn",)
    assert parse_config(["--data", "x"]).seen_architectures()[1] == "resnet50v2"


def test_at_most_twenty_flags_all_with_help():
    flags = [spec for spec in fields(TrainConfig) if spec.metadata["group"]]
    assert len(flags) + 1 <= 20
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
        (["--epochs", "0"], r"`epochs` must be from 1 to 10000\. Received: 0"),
        (["--epochs", "many"], r"`epochs` must be a whole number\. Received: 'many'"),
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
    with pytest.raises(ConfigError, match="'learning_speed'"):
        parse_config(["--config", str(path)])


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
