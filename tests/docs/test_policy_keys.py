"""docs/policy-files.md explains every key that a policy file may have, and no key that it may not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from policies.files import schema
from support.repository import ROOT

PAGE = ROOT / "docs" / "policy-files.md"


def keys_of_files() -> Iterator[str]:
    """Every field of every shape of a policy file."""
    for shape in vars(schema).values():
        if isinstance(shape, type) and issubclass(shape, schema.Shape):
            yield from (field.alias or name for name, field in shape.model_fields.items())


def test_every_key_is_explained() -> None:
    """Each key stands on the page in code, alone or as `key: value`."""
    on_page = set(re.findall(r"`(\w+)(?::[^`]*)?`", PAGE.read_text(encoding="utf-8")))
    on_page |= set(re.findall(r"^[ -]*(\w+):", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert sorted(set(keys_of_files()) - on_page) == []


def test_every_key_in_a_table_of_keys_exists() -> None:
    """What stands in the first column of a table headed `key` is a key of some section of a policy file."""
    tables = re.findall(r"^\| key \|.*\n\|[ :|-]+\|\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    explained = {key for rows in tables for key in re.findall(r"^\| `(\w+)`", rows, re.MULTILINE)}
    assert explained
    assert sorted(explained - set(keys_of_files())) == []
