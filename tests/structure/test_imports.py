"""What may import what: the direction between the packages, and who may load the heavy libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.repository import PACKAGES, ROOT, product_modules, shown, tree

# Library -> the path prefixes of the only modules that may import it, at whatever depth.
HEAVY = {
    "modal": ("pools/modal/",),
    "sklearn": ("router/learning/",),
    "alembic": ("pricing/ledger/",),
    "hiredis": ("pricing/redis/",),
    "redis": (),
    "sqlalchemy": ("pricing/ledger/",),
    "psycopg": ("pricing/ledger/", "pricing/redis/drainer.py"),
    "numpy": ("router/learning/",),
    "scipy": (),
}
# What `sluice --help` must not wait for.
NEVER_AT_START = (
    "modal",
    "sklearn",
    "alembic",
    "sqlalchemy",
    "psycopg",
    "hiredis",
    "fastapi",
    "uvicorn",
    "aiohttp",
    "httpx",
    "numpy",
)


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every import of a module, those inside functions too; a relative name begins with a dot."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def wrong_direction(path: str, module: ast.Module) -> list[str]:
    """`path:line` of each import by which a package reaches a package after it, or anything relative or of tests."""
    package = path.split("/")[0]
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    found = []
    for line, name in imports(module):
        top = name.split(".")[0]
        if top in later:
            found.append(f"{path}:{line}: {package} imports {name}; it may only import what comes before it")
        elif top in {"", "tests", "benchmarks", "support"}:
            found.append(f"{path}:{line}: imports '{name}'; product code imports packages by their full name")
    return found


def test_packages_import_only_what_comes_before_them() -> None:
    """pricing <- pools <- policies <- router: no import of the product points the other way."""
    assert [problem for path in product_modules() for problem in wrong_direction(shown(path), tree(path))] == []


def test_an_import_in_the_wrong_direction_is_named_with_its_line() -> None:
    """The check itself sees an import inside a function and says file and line."""
    module = ast.parse("import pricing.money\ndef f():\n    import policies.choose.decide\n")
    assert wrong_direction("pools/late.py", module) == [
        "pools/late.py:3: pools imports policies.choose.decide; it may only import what comes before it"
    ]


def folders(package: str) -> dict[str, set[str]]:
    """Which folders and files at the top of a package import which others of it."""
    found: dict[str, set[str]] = {}
    for path in product_modules():
        top, *parts = shown(path).removesuffix(".py").split("/")
        if top != package:
            continue
        names = (name.split(".") for _, name in imports(tree(path)))
        found.setdefault(parts[0], set()).update(name[1] for name in names if name[0] == package and len(name) > 1)
    return {name: others - {name} for name, others in found.items()}


def in_circles(importing: dict[str, set[str]]) -> set[str]:
    """Those that import each other, directly or through others."""
    left = dict(importing)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    return set(left)


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_of_a_package_import_each_other_one_way(package: str) -> None:
    """So that each can be read without those that use it."""
    assert in_circles(folders(package)) == set()


def test_a_circle_of_folders_is_seen() -> None:
    """Through a third one, too, together with who uses it."""
    assert in_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set(), "e": {"d", "a"}, "f": {"d"}}) == set("abce")


def told(package: str) -> list[str]:
    """The folders and files of a package in the order in which `docs/design.md` names them."""
    table = (ROOT / "docs" / "design.md").read_text(encoding="utf-8").split(f"**`{package}/`**")[1].split("\n**")[0]
    cells = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    return [name.removesuffix(".py") for cell in cells for name in re.findall(r"`(\w+(?:/|\.py))`", cell)]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_design_names_folders_in_the_order_of_their_imports(package: str) -> None:
    """Every folder is there, and whatever is there imports only what is named before it."""
    names = [name.rstrip("/") for name in told(package)]
    of = folders(package)
    assert [name for name in of if (ROOT / package / name).is_dir() and name not in names] == []
    assert [(name, other) for name in names for other in of.get(name, ()) if other in names[names.index(name) :]] == []


def test_heavy_libraries_are_imported_only_by_the_modules_that_use_them() -> None:
    """modal, scikit-learn, Alembic, SQLAlchemy, psycopg and redis load only with the feature that needs them."""
    found = [
        f"{shown(path)}:{line}: imports {name}; only {', '.join(HEAVY[top]) or 'nothing'} may"
        for path in product_modules()
        for line, name in imports(tree(path))
        if (top := name.split(".")[0]) in HEAVY and not shown(path).startswith(HEAVY[top] or ("\0",))
    ]
    assert found == []


def test_the_command_starts_without_any_heavy_library() -> None:
    """Importing `router.cli.main`, all that `sluice --help` needs, loads no server, client, store or number library."""
    code = f"import sys, router.cli.main; print([name for name in {NEVER_AT_START!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
