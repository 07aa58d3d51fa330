"""The progress bar: seen on a terminal only, and never in the way of the items."""

from __future__ import annotations

import io
import sys

from cspine.core.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_all_items_come_through_in_order(capsys):
    assert list(progress(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_the_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress([1, 2], "numbers")) == [1, 2]
    assert "numbers" in sys.stderr.getvalue()
