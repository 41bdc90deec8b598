"""One process per ledger file: a lock that the kernel drops when its process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from pricing.errors import StoreUnavailable


class FileLock:
    """Holds `<path>.lock` until released.

    A file of its own, because closing any descriptor of the database would drop SQLite's own locks on it.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock at once.

        Raises StoreUnavailable when another process has it, for a folder, and where nothing can be written beside it.
        """
        try:
            if path.is_dir():
                raise StoreUnavailable(f"ledger {path} is a folder; name a file in it")
            self._path = path.with_name(path.name + ".lock")
            self._file = self._path.open("a+", encoding="ascii")
        except OSError as error:
            raise StoreUnavailable(f"ledger {path}: cannot write beside it: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise StoreUnavailable(
                f"ledger {path} is in use by process {owner}; one process owns a ledger file: "
                "stop that one, or name another file with SLUICE_LEDGER"
            ) from None
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n")
            self._file.flush()
        except OSError as error:
            with suppress(OSError):
                self._file.close()  # what is left in it cannot be written either
            raise StoreUnavailable(f"ledger {path}: cannot write beside it: {error.strerror}") from None

    def release(self) -> None:
        """Give the lock up. The empty-handed file stays: removing it would let two newcomers lock two files."""
        self._file.close()
