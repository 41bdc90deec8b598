"""Rules about the source that no linter knows: lengths, broad excepts, docstrings of tests, names of places."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.repository import ROOT, modules_of_tests, product_modules, shown, text_files, tree

LINES_AT_MOST = 400
BROAD = {"Exception", "BaseException"}
# In each server the one place after which nobody is left to answer the client; it logs the fault with its trace.
LAST_RESORTS = ["pools/modal/worker/server.py", "router/http/dispatch.py"]


def test_no_module_grows_past_one_idea() -> None:
    """No product module is longer than 400 lines."""
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in product_modules()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_AT_MOST} == {}


def test_product_code_catches_only_errors_it_names() -> None:
    """No bare except, `except Exception` or `suppress(Exception)` swallows a bug, but for each server's last resort."""
    found = [(shown(path), line) for path in product_modules() for line in broad_catches(tree(path))]
    assert [f"{name}:{line}" for name, line in found if name not in LAST_RESORTS] == []
    assert sorted(name for name, _ in found) == LAST_RESORTS


def test_broad_catches_are_seen_in_every_form() -> None:
    """The check itself sees bare, plain, tuple and suppress forms."""
    source = (
        "try: ...\nexcept: ...\ntry: ...\nexcept Exception: ...\ntry: ...\nexcept (OSError, BaseException): ...\n"
        "with contextlib.suppress(Exception): ...\ntry: ...\nexcept OSError: ...\n"
        "try: ...\nexcept BaseException:\n    close()\n    raise\n"
    )
    assert list(broad_catches(ast.parse(source))) == [2, 4, 6, 7]


def test_every_test_opens_with_the_sentence_it_proves() -> None:
    """Each test function and method has a docstring."""
    found = [
        f"{shown(path)}:{function.lineno}: {function.name}"
        for path in modules_of_tests()
        for function in collected(tree(path))
        if not (ast.get_docstring(function) or "").strip()
    ]
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    """No two test files share a base name: without packages, pytest could import only one of them."""
    names = [path.name for path in modules_of_tests()]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_no_file_names_a_registry_or_a_place_on_one_machine() -> None:
    """Files name no package registry's host and no path that exists only where they were written."""
    registry = re.compile(r"(pypi|pythonhosted|npmjs|debian)\.(org|com|net)")
    places = re.compile(r"(?<![\w.$}/-])/(home|Users|work)/\w")
    here = re.compile(
        "|".join(re.escape(str(place)) for place in (ROOT, Path.home()) if len(place.parts) > 2) or r"(?!)"
    )
    found = [
        f"{shown(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if registry.search(line) or places.search(line) or here.search(line)
    ]
    assert found == []


def broad_catches(module: ast.Module) -> Iterator[int]:
    """Lines that swallow more than errors with a name. To clean up and raise on is no swallowing."""
    for node in ast.walk(module):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or is_broad(node.type)):
            if not raises_on(node):
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            yield from (node.lineno for argument in node.args if is_broad(argument))


def raises_on(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def is_broad(expression: ast.expr) -> bool:
    members = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    return any(ast.unparse(member).split(".")[-1] in BROAD for member in members)


def collected(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that pytest collects from a file: at its top, and in classes named Test."""
    bodies = [module.body]
    bodies += [node.body for node in module.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test")]
    for body in bodies:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node
