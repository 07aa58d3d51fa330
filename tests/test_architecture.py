"""The import law: which room may import which, and that nothing runs at import.

A breach names the file, the import and the rule.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEVELS = {
    "core": 0,
    "stats": 1,
    "fetch": 1,
    "imaging": 2,
    "phantom": 2,
    "data": 4,
    "model": 5,
    "decide": 5,
    "evaluate": 6,
    "train": 7,
    "predict": 7,
    "serve": 8,
}
FORBIDDEN = {
    "predict": {"data", "train", "evaluate", "phantom"},
    "serve": {"data", "train", "evaluate", "phantom"},
    "train": {"predict", "serve"},
    "evaluate": {"model"},
}
ANSWERS_HTTP = {"flask", "waitress", "werkzeug"}  # `serve` alone
ASKS_HTTP = {"requests", "urllib3", "http"}  # `serve`, and below it `fetch`
# Sub-packages that never import each other.
APART = {
    "serve.routes": "serve.waitress_server",
    "serve.waitress_server": "serve.routes",
    "serve.schemas": "serve.routes",
}
SOURCES = sorted((ROOT / "cspine").rglob("*.py"))
# Which folders one never imports.
ABOVE = {"benchmarks": {"experiments", "tools"}, "experiments": {"tools"}}
FOLDERS = ("benchmarks", "experiments", "tools", "tests/fuzz")
SCRIPTS = sorted(
    [*ROOT.glob("*.py"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
)
ENVIRONMENT = {
    ("os", "environ"),
    ("os", "getenv"),
    ("sys", "argv"),
    ("logging", "basicConfig"),
}
# Calls that do more than make a value: an application, a file, whatever the system does.
ACTING = {"create_app", "Flask", "open", "os", "subprocess", "sys", "socket"}
DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


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
        if top in ANSWERS_HTTP and room not in ("serve", ""):
            found.append(f"{name}: only `serve` answers HTTP")
        if top in ASKS_HTTP and room not in ("serve", "fetch", ""):
            found.append(f"{name}: only `fetch` and `serve` speak HTTP")
        if other in LEVELS and room and other != room:
            if LEVELS[other] >= LEVELS[room]:
                found.append(f"{name}: `{room}` imports only lower rooms")
            if other in FORBIDDEN.get(room, ()):
                found.append(f"{name}: `{room}` never imports `{other}`")
    return found


def environment_uses(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.append((node.value.id, node.attr))
        elif isinstance(node, ast.ImportFrom):
            names += [(node.module, alias.name) for alias in node.names]
    return [
        f"{'.'.join(name)}: only entry points read or configure it"
        for name in names
        if name in ENVIRONMENT
    ]


def run_at_import(tree: ast.Module) -> list[str]:
    """What a module does beyond defining: a loop, a block that is no guard, a call that acts."""
    return [
        f"line {node.lineno}: nothing runs at import"
        for node in tree.body
        if not (_is_definition(node) or _is_text(node) or _is_guard(node))
    ]


def _is_definition(node: ast.stmt) -> bool:
    calls = [ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)]
    is_value = isinstance(node, ast.Assign | ast.AnnAssign)
    acts = [name for name in calls if name.split(".")[0] in ACTING]
    return isinstance(node, DEFINITIONS) and not (is_value and acts)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_guard(node: ast.stmt) -> bool:
    """`if TYPE_CHECKING`, `if __name__ == "__main__"`, or imports of what a system may lack."""
    if isinstance(node, ast.Try):
        handled = [one for handler in node.handlers for one in handler.body]
        defined = all(_is_definition(one) for one in handled)
        imported = all(isinstance(one, ast.Import | ast.ImportFrom) for one in node.body)
        return imported and defined and not (node.orelse or node.finalbody)
    conditions = ("TYPE_CHECKING", "__name__ == '__main__'")
    return isinstance(node, ast.If) and ast.unparse(node.test) in conditions and not node.orelse


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_import_law(path: Path):
    parts = path.relative_to(ROOT / "cspine").parts
    room = parts[0] if len(parts) > 1 else ""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = breaches(room, imports_of(tree))
    package = ".".join(parts[:2])
    found += [
        f"{name}: `{package}` never imports `{APART[package]}`"
        for name in imports_of(tree)
        if package in APART and name.startswith(f"cspine.{APART[package]}")
    ]
    if path.name != "__main__.py":
        found += environment_uses(tree)
    found += run_at_import(tree)
    assert not found, f"{path.relative_to(ROOT)}: " + "; ".join(found)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_script_imports_tensorflow(path: Path):
    found = imports_of(ast.parse(path.read_text(encoding="utf-8")))
    assert not [name for name in found if name.split(".")[0] == "tensorflow"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tools_import_experiments_and_those_benchmarks(path: Path):
    folder = path.relative_to(ROOT).parts[0]
    found = {name.split(".")[0] for name in imports_of(ast.parse(path.read_text("utf-8")))}
    assert not found & ABOVE.get(folder, set())


def test_the_law_sees_a_breach():
    tree = ast.parse("import tensorflow\nfrom cspine.train import run\nimport flask")
    assert len(breaches("predict", imports_of(tree))) == 4
    assert environment_uses(ast.parse("import os\nos.environ['A']"))
    assert environment_uses(ast.parse("from os import environ, path"))
    acts = "import os\nos.fork()\nif os:\n    pass\napp = create_app()\nX = [os.fork()]"
    assert len(run_at_import(ast.parse(acts))) == 4
