"""`python -m cspine phantom`: what it refuses before it draws anything."""

from __future__ import annotations

import pytest

from cspine.__main__ import main


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--sheet", "sheet.png", "--confound", "height"], "`--sheet` shows both classes"),
        (["set", "--sheet", "sheet.png", "--slices", "3"], "Received: DIR, --slices"),
        ([], "`folder` or `--sheet FILE` must be given"),
        (["set", "--patients", "0"], "`patients` must be at least 1"),
        (["set", "--slices", "0"], "`slices_per_patient` must be 2 or more"),
        (["set", "--variants"], "`--variants` needs"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["phantom", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
