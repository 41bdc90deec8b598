"""A request's body as fields and files: JSON, or a form as the router passes it on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pools.wire.multipart import BadForm, boundary_of, parts_of

SIDE_AT_MOST: Final = 2048
SEED_AT_MOST: Final = 2**32 - 1
DIGITS_AT_MOST: Final = 18  # of a number in a form: above any bound here, below what Python refuses to read
_SIZE: Final = re.compile(r"(\d{1,5})\s*[x×X*]\s*(\d{1,5})")


class BadRequest(Exception):
    """What is wrong with a request, and with which of its fields."""

    def __init__(self, message: str, param: str) -> None:
        self.param = param
        super().__init__(message)


@dataclass(frozen=True)
class Body:
    """Values as JSON has them, or the text of a form's fields; `files` are those parts of a form that have a name."""

    fields: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Raises BadRequest where it is no text, or empty."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise BadRequest(f"{name} must be text", name)
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise BadRequest(f"{name} has half of a character; send whole ones", name)
        return value

    def number(self, name: str, most: int, least: int = 1) -> int | None:
        """A whole number, None where the field is left out. Raises BadRequest."""
        value = self.fields.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, str) and value.isdecimal() and len(value) <= DIGITS_AT_MOST:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadRequest(f"{name} is a whole number from {least} to {most}", name)
        return value

    def seconds(self, name: str) -> float | None:
        """A number above 0, None where the field is left out. Raises BadRequest."""
        value = self.fields.get(name)
        if value is None or value == "":
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = 0.0
        if isinstance(value, bool) or not 0 < number < float("inf"):
            raise BadRequest(f"{name} is a number above 0", name)
        return number

    def size(self, usual: tuple[int, int], multiple: int) -> tuple[int, int]:
        """Width and height, as `size`, or as fields of their own. Raises BadRequest."""
        size = self.fields.get("size")
        if size in (None, "", "auto"):
            sides = self.number("width", SIDE_AT_MOST), self.number("height", SIDE_AT_MOST)
            width, height = sides[0] or usual[0], sides[1] or usual[1]
        else:
            found = _SIZE.fullmatch(size) if isinstance(size, str) else None
            if found is None or not all(0 < int(side) <= SIDE_AT_MOST for side in found.groups()):
                raise BadRequest(f"size is like 1024x1024, with sides up to {SIDE_AT_MOST}", "size")
            width, height = int(found[1]), int(found[2])
        if width % multiple or height % multiple:
            raise BadRequest(f"both sides of size must be multiples of {multiple}", "size")
        return width, height

    def file(self, *names: str) -> bytes:
        """The file of the first of these names that is there. Raises BadRequest."""
        for name in names:
            if self.files.get(name):
                return self.files[name]
        raise BadRequest(f"a file is missing: send a form (multipart/form-data) with one as '{names[0]}'", names[0])


def read_body(content_type: str, data: bytes) -> Body:
    """Raises BadRequest where it is neither an object in JSON nor a form."""
    if content_type.partition(";")[0].strip().lower() == "multipart/form-data":
        return _form(content_type, data)
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", "body") from None
    if not isinstance(fields, dict):
        raise BadRequest("the body is no object", "body")
    return Body(fields)


def _form(content_type: str, data: bytes) -> Body:
    try:
        parts = parts_of(data, boundary_of(content_type))
    except BadForm as trouble:
        raise BadRequest(f"the body is not a valid form: {trouble}", "body") from None
    fields = {part.name: data[part.start : part.end].decode("utf-8", "replace") for part in parts if not part.is_file}
    return Body(fields, {part.name: data[part.start : part.end] for part in parts if part.is_file})
