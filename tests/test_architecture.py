"""The import law: which room may import which. A breach names the file, the import and the rule."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    "core": 0, "imaging": 1, "phantom": 1, "data": 2, "model": 3, "decide": 3,
    "evaluate": 4, "train": 5, "predict": 5, "serve": 6,
}  # fmt: skip
FORBIDDEN = {
    "predict": {"data", "train", "evaluate", "phantom"},
    "serve": {"data", "train", "evaluate", "phantom"},
    "train": {"predict", "serve"},
}
HTTP = {"flask", "waitress", "werkzeug", "requests", "urllib3", "http"}
SOURCES = sorted((ROOT / "cspine").rglob("*.py"))


def imports_of(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def breaches(room: str, names: list[str]) -> list[str]:
    found = []
    for name in names:
        top, *rest = name.split(".")
        other = rest[0] if top == "cspine" and rest else None
        if top == "tensorflow":
            found.append(f"{name}: nothing imports tensorflow")
        if top in HTTP and room not in ("serve", ""):
            found.append(f"{name}: only `serve` knows HTTP")
        if other in LEVELS and room and other != room:
            if LEVELS[other] >= LEVELS[room]:
                found.append(f"{name}: `{room}` imports only lower rooms")
            if other in FORBIDDEN.get(room, ()):
                found.append(f"{name}: `{room}` never imports `{other}`")
    return found


def environment_uses(tree: ast.AST) -> list[str]:
    uses = {
        ("os", "environ"), ("os", "getenv"), ("sys", "argv"), ("logging", "basicConfig"),
    }  # fmt: skip
    return [
        f"{node.value.id}.{node.attr}: only entry points read or configure it"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in uses
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_law(path: Path):
    parts = path.relative_to(ROOT / "cspine").parts
    room = parts[0] if len(parts) > 1 else ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = breaches(room, imports_of(tree))
    if path.name != "__main__.py":
        found += environment_uses(tree)
    assert not found, f"{path.relative_to(ROOT)}: " + "; ".join(found)


def test_the_law_sees_a_breach():
    tree = ast.parse("import tensorflow\nfrom cspine.train import run\nimport flask")
    assert len(breaches("predict", imports_of(tree))) == 4
    assert environment_uses(ast.parse("import os\nos.environ['A']"))
