"""Bodies of type `multipart/form-data` (RFC 7578): their fields, and one field set to another value.

As with JSON, what nobody changes stays byte for byte: files are never copied part by part. The worker in a pool's
container (`pools.modal.worker`) reads forms by it too, so it needs the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_BOUNDARY: Final = re.compile(r'boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_NAME: Final = re.compile(rb'(?:^|[;\s])name="([^"\r\n]*)"', re.IGNORECASE)
_FILE: Final = re.compile(rb"(?:^|[;\s])filename\*?=", re.IGNORECASE)
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
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise BadForm("its Content-Type names no boundary")
    return found[1].strip().encode("latin-1", "replace")


def parts_of(body: bytes, boundary: bytes) -> list[Part]:
    """Every part, in order. Raises BadForm."""
    delimiter = b"--" + boundary
    at = body.find(delimiter)
    found: list[Part] = []
    while at >= 0:
        at += len(delimiter)
        if body.startswith(b"--", at):
            return found
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
    encoded = {name: value.encode("utf-8", "replace") for name, value in fields.items()}
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


def _part(head: bytes, start: int, end: int) -> Part:
    """Raises BadForm."""
    disposition = next(
        (line for line in head.split(b"\r\n") if line[:20].lower().startswith(b"content-disposition")), b""
    )
    name = _NAME.search(disposition)
    if name is None:
        raise BadForm("a part of it has no name")
    return Part(name[1].decode("utf-8", "replace"), _FILE.search(disposition) is not None, start, max(start, end))
