"""Structured logs: one JSON object a line, on standard error."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict

import msgspec

from router.errors import ERRORS
from router.events import Event, RequestEnded

LOGGER = logging.getLogger("sluice")


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
    """Writes every event as one line, at the level that the table of errors gives it."""

    def emit(self, event: Event) -> None:
        level = logging.INFO
        if isinstance(event, RequestEnded):
            entry = ERRORS.get(event.error_code or "")
            level = entry.log_level if entry else logging.INFO
        elif not type(event).__name__.endswith("Ended"):
            level = logging.WARNING
        if LOGGER.isEnabledFor(level):
            LOGGER.log(level, type(event).__name__, extra={"fields": asdict(event)})
