"""A file of finished results, so that a long experiment continues after an interruption."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cspine.core.atomic_write import written_whole


class Progress:
    """Finished results by name. The results of a file with other settings are ignored.

    Args:
        path: the file; its folder is created with the first result.
        settings: the settings of the run, JSON values.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self.done = path, {"settings": settings}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            self.done = found if found["settings"] == settings else self.done

    def keep(self, name: str, result: dict[str, Any]) -> None:
        """Write a result to the file."""
        self.done[name] = result
        with written_whole(self._path) as part:
            part.write_text(json.dumps(self.done, indent=1), encoding="utf-8")

    def once(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the result of `work` and the seconds it took; run it only if it is not in the
        file."""
        if name not in self.done:
            print(name, file=sys.stderr)
            began = time.perf_counter()
            result = work()
            self.keep(name, {**result, "wall_s": round(time.perf_counter() - began, 1)})
        return self.done[name]
