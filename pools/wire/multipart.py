"""Bodies of type `multipart/form-data` (RFC 7578): their fields, and one field set to another value.

As with JSON, what nobody changes stays byte for byte: files are never copied part by part. The worker in a pool's
container (`pools.modal.worker`) reads forms by it too, so it needs the standard library alone.

Whoever is behind the router reads the same bytes once more, and must read the same in them: a size that only the engine
sees would pass all that judges requests by their size. So what parsers are known to read differently is refused: a
name or a header given twice, `name*`, a file whose name is only encoded, text before the first part, lines that begin
as the delimiter does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_KIND: Final = re.compile(r"\s*[^\s;]+\s*")
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))\s*', re.DOTALL)
_UNSAFE: Final = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""In the name of a field, as browsers write them."""

BOUNDARY_AT_MOST: Final = 70
PARTS_AT_MOST: Final = 200
HEAD_BYTES: Final = 16 * 1024  # of one part: a megabyte of header lines would hold up everybody else


class BadForm(ValueError):
    """The body is no form; the message says what is wrong, and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field: its value is `body[start:end]`; `is_file` where it came with a file's name."""

    name: str
    is_file: bool
    start: int
    end: int


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names. Raises BadForm."""
    boundary = _parameters(content_type, "its Content-Type").get("boundary", "")
    if not 0 < len(boundary) <= BOUNDARY_AT_MOST:
        raise BadForm("its Content-Type names no boundary")
    return boundary.encode("latin-1", "replace")


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """Every part, in order. Raises BadForm."""
    delimiter = b"--" + boundary
    at = body.find(delimiter)
    if at > 0 and body[:at].strip(b"\r\n"):
        raise BadForm("it has text before its first part")
    found: list[Part] = []
    while at >= 0:
        at += len(delimiter)
        if body.startswith(b"--", at):
            return found
        if not body.startswith(b"\r\n", at):
            raise BadForm("a line in it begins as its boundary does, and goes on")
        head_end = body.find(b"\r\n\r\n", at, at + HEAD_BYTES)
        end = body.find(b"\r\n" + delimiter, max(head_end, at))
        if head_end < 0 or end < 0 or len(found) >= PARTS_AT_MOST:
            break
        found.append(_part(body[at:head_end], head_end + 4, end))
        at = end + 2
    raise BadForm(f"it does not end, or has more than {PARTS_AT_MOST} parts or {HEAD_BYTES} bytes of a part's headers")


def form_of(fields: Mapping[str, str]) -> tuple[str, bytes]:
    """(Content-Type, body) of a form with these fields. The boundary is a hash of them, which none of them holds."""
    boundary = sha256(repr(sorted(fields.items())).encode("utf-8", "replace")).hexdigest()
    content_type = f"multipart/form-data; boundary={boundary}"
    encoded = {_safe(name): value.encode("utf-8", "replace") for name, value in fields.items()}
    return content_type, with_fields(b"--%b--\r\n" % boundary.encode(), boundary.encode(), encoded)


def with_fields(body: bytes, boundary: bytes, fields: Mapping[str, bytes]) -> bytes:
    """Set fields to new values; one that is missing is put first. Raises BadForm."""
    pieces: list[bytes] = []
    missing = dict(fields)
    at = 0
    for part in parts_of(body, boundary):
        if part.name in fields:
            pieces += [body[at : part.start], fields[part.name]]
            missing.pop(part.name, None)
            at = part.end
    first = [
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name.encode(), value)
        for name, value in missing.items()
    ]
    return b"".join([*first, *pieces, body[at:]])


def _safe(name: str) -> str:
    """A name that cannot end its own quotes, nor its line."""
    return "".join(_UNSAFE.get(character, character) for character in name)


def _part(head: bytes, start: int, end: int) -> Part:
    """Raises BadForm."""
    headers = [line.partition(b":") for line in head.split(b"\r\n") if line]
    found = [value for name, _, value in headers if name.strip().lower() == b"content-disposition"]
    if len(found) != 1:
        raise BadForm("a part of it has no name, or several")
    given = _parameters(found[0].decode("utf-8", "replace"), "a part of it")
    name = given.get("name")
    if not name or "\\" in name or "name*" in given:
        raise BadForm("a part of it has no name, or one that not everybody reads alike")
    if "filename*" in given and "filename" not in given:
        raise BadForm("a file of it has its name only encoded; give a plain filename as well")
    return Part(name, "filename" in given, start, max(start, end))


def _parameters(header: str, whose: str) -> dict[str, str]:
    """What stands behind a header's first word, names in lower case. Raises BadForm for what reads in two ways."""
    text = header.rstrip("; \t")
    kind = _KIND.match(text)
    at = kind.end() if kind else 0
    found: dict[str, str] = {}
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is None or parameter[1].lower() in found:
            raise BadForm(f"{whose} has parameters that cannot be read, or one of them twice")
        found[parameter[1].lower()] = parameter[3] if parameter[2] is None else parameter[2]
        at = parameter.end()
    return found
