"""Structured logs: one JSON object a line, on standard error, written in batches off the requests' path."""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import time
from collections import Counter
from typing import Final, TextIO

import msgspec

from router.errors import ERRORS
from router.telemetry.events import (
    AttemptEnded,
    CapExhausted,
    Event,
    PolicyReloaded,
    RateLimitHit,
    RequestEnded,
    StoreBack,
    StoreTrouble,
)

LOGGER = logging.getLogger("sluice")

BATCH_S: Final = 0.05  # lines wait at most this long: a write per line costs more than making the line


class JsonLines(logging.Formatter):
    """Formats a record as JSON. Fields come from `extra={"fields": {...}}`; nothing else is taken from a request."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname.lower(), "event": record.getMessage()}
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def configure(level: str) -> None:
    """Send this process's logs to standard error as JSON lines. Raises ValueError for an unknown level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Uvicorn's access log would say the same as ours, without tenant, pool or cost.
    logging.getLogger("uvicorn.access").disabled = True


class LogSink:
    """Writes events as lines: requests at the level that the table of errors gives them, attempts where they failed.

    Bypasses `logging`, which costs more than the rest of a request's bookkeeping together; the level is the same.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """`stream` None is what standard error is now."""
        self._stream = sys.stderr if stream is None else stream
        self._lines: list[bytes] = []
        self._troubles: Counter[str] = Counter()  # of this outage, by decision
        atexit.register(self.flush)

    def emit(self, event: Event) -> None:
        if isinstance(event, StoreTrouble | StoreBack):
            self._emit_trouble(event)
            return
        level = _level(event)
        if LOGGER.isEnabledFor(level):
            self._write(level, event, msgspec.json.encode(event))

    def _emit_trouble(self, event: StoreTrouble | StoreBack) -> None:
        """Every request of an outage has the same trouble: what is made of it is said once, and counted at its end."""
        if not LOGGER.isEnabledFor(logging.WARNING):
            return
        if isinstance(event, StoreBack):
            fields = {**msgspec.structs.asdict(event), "troubles": dict(self._troubles)}
            self._troubles.clear()
            self._write(logging.WARNING, event, msgspec.json.encode(fields))
            return
        self._troubles[event.decision] += 1
        if self._troubles[event.decision] == 1:
            self._write(logging.WARNING, event, msgspec.json.encode(event))

    def _write(self, level: int, event: Event, fields: bytes) -> None:
        name = logging.getLevelName(level).lower()
        head = f'{{"at":{time.time():.6f},"level":"{name}","event":"{type(event).__name__}",'
        self._lines.append(head.encode() + fields[1:])
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_later(BATCH_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write(b"\n".join(lines).decode() + "\n")
            self._stream.flush()


def _level(event: Event) -> int:
    if isinstance(event, RequestEnded):
        entry = ERRORS.get(event.error_code or "")
        return entry.log_level if entry else logging.INFO
    if isinstance(event, AttemptEnded):
        return logging.DEBUG if event.outcome == "answered" else logging.INFO
    if isinstance(event, PolicyReloaded):
        return logging.INFO
    if isinstance(event, CapExhausted | RateLimitHit):
        return logging.DEBUG  # the request that was refused has a line of its own
    return logging.WARNING
