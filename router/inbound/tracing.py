"""The trace that a client's request belongs to: W3C Trace Context (www.w3.org/TR/trace-context), level 1 and above.

The router starts no spans. It passes the header on to pools of its own, so that an engine's spans join the client's
trace, and says the trace's id in the log.
"""

from __future__ import annotations

import re
from typing import Final

HEADER: Final = "traceparent"
_FIELDS: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(-.*)?")
_TRACE_ID: Final = slice(3, 35)


def trace_parent(value: bytes | None) -> str | None:
    """The header as it is passed on, in version 00; None where there is none, or one that the standard refuses.

    A later version is read by the fields that version 00 has, as the standard asks.
    """
    if value is None:
        return None
    match = _FIELDS.fullmatch(value)
    if match is None:
        return None
    version, fields, more = match.groups()
    trace, parent, _ = fields.split(b"-")
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return f"00-{fields.decode()}"


def trace_id(parent: str | None) -> str | None:
    """Of a header that `trace_parent` gave."""
    return None if parent is None else parent[_TRACE_ID]
