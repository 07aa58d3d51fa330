"""The code blocks, links and tables of the project's Markdown files."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + DOCS

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and why it is not run, if it is not."""

    place: str
    language: str
    code: str
    reason: str | None


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            f"{page.name}:{text[: found.start('language')].count(chr(10)) + 1}",
            found["language"],
            found["code"],
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def without_code(text: str) -> str:
    """The text without its fenced blocks."""
    return _BLOCK.sub("", text)


def read_table(text: str, *header: str) -> list[dict[str, str]]:
    """The rows of the table with this header, by column."""
    line = f"| {' | '.join(header)} |\n"
    assert text.count(line) == 1, f"one table must have the header {line!r}"
    rows = text.split(line)[1].split("\n\n")[0].splitlines()[1:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    return [dict(zip(header, row, strict=True)) for row in cells]
