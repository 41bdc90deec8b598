"""What the docs name exists: files, links, commands, options, make words, environment variables, error codes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer

from router.cli.main import VERBS, app
from router.errors import ERRORS
from support.docs import Piece, anchors, commands, links, pages, spans
from support.repository import PACKAGES, ROOT, product_modules

PATH = re.compile(rf"(?:{'|'.join(PACKAGES)}|tests|docs|benchmarks|requirements|\.ci)/[\w./*-]*")


def test_links_lead_somewhere() -> None:
    """Every relative link names a file that exists, and a heading that is in it."""
    found = []
    for link in (link for page in pages() for link in links(page) if "://" not in link.text):
        name, _, anchor = link.text.partition("#")
        target = (link.page.parent / name).resolve() if name else link.page
        if not target.exists():
            found.append(f"{link.place}: {link.text}: there is no such file")
        elif anchor and anchor not in anchors(target):
            found.append(f"{link.place}: {link.text}: there is no such heading")
    assert found == []


def test_files_that_are_named_exist() -> None:
    """Every path below a folder of the repository that stands in code spans exists; `*` matches at least one file."""
    found = [
        f"{span.place}: {span.text}"
        for page in pages()
        for span in spans(page)
        if PATH.fullmatch(span.text) and not any(ROOT.glob(span.text.rstrip("/")))
    ]
    assert found == []


def test_pages_that_the_product_names_exist() -> None:
    """Every docs/*.md that a message, a docstring or a shipped file sends people to is there."""
    page = re.compile(r"\bdocs/[\w/-]+\.md\b")
    sources = [*product_modules(), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.yaml"))]
    named = {name for path in sources for name in page.findall(path.read_text(encoding="utf-8"))}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def test_make_words_exist() -> None:
    """Every `make word` in the docs is a target of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        (command.place, word)
        for page in pages()
        for command in commands(page)
        for word in re.findall(r"^make (?:[A-Z]+=\S+ )*([\w-]+)", command.text)
    ]
    assert named
    assert [f"{place}: make {word}" for place, word in named if word not in targets] == []


def test_commands_know_their_options() -> None:
    """Every `sluice …` in the docs names a verb that exists, with options that this verb has."""
    named = [command for page in pages() for command in commands(page) if command.text.startswith("sluice ")]
    assert named
    assert [problem for command in named for problem in command_problems(command)] == []


def test_every_verb_is_documented() -> None:
    """No verb of the command is without a mention in the docs."""
    text = "\n".join(command.text for page in pages() for command in commands(page))
    assert [verb for verb in VERBS if f"sluice {verb}" not in text] == []


def test_environment_variables_are_read_by_the_product() -> None:
    """Every SLUICE_ variable in the docs is read by the product, and every one that it reads is in the docs."""
    variable = re.compile(r"\bSLUICE_[A-Z_]+\b")
    in_docs = {name for page in pages() for name in variable.findall(page.read_text(encoding="utf-8"))}
    in_product = {name for path in product_modules() for name in variable.findall(path.read_text(encoding="utf-8"))}
    assert in_docs == in_product


def test_error_codes_that_follow_a_status_exist() -> None:
    """Where the docs write a status and a code (503 `model_warming`), the table of errors has that pair."""
    found = []
    for page in pages():
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            for status, code in re.findall(r"\b([45]\d\d) `(\w+)`", line):
                if code not in ERRORS or ERRORS[code].status != int(status):
                    found.append(f"{page.relative_to(ROOT)}:{number}: {status} {code}")
    assert found == []


def command_problems(command: Piece) -> Iterator[str]:
    """What is wrong with one `sluice …` line: an unknown verb, sub-verb or option."""
    words = shlex.split(command.text.split("|")[0].split(">")[0].rstrip("&…. "), comments=True)[1:]
    node: Any = typer.main.get_command(app)
    while words and not words[0].startswith("-") and hasattr(node, "get_command"):
        inner = node.get_command(None, words[0])
        if inner is None:
            yield f"{command.place}: sluice has no verb '{words[0]}'"
            return
        node, words = inner, words[1:]
    known = {"--help"} | {name for option in node.params for name in (*option.opts, *option.secondary_opts)}
    for word in words:
        if word.startswith("-") and (option := word.partition("=")[0]) not in known:
            yield f"{command.place}: `{command.text}`: no option {option}"
