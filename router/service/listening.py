"""Why an address cannot be listened on, in words that say what to do."""

from __future__ import annotations

import os

from pricing.errors import SluiceError


class CannotListen(SluiceError):
    """The address is another's, or not this machine's."""


def cannot_listen(host: str, port: int, error: BaseException | None) -> CannotListen:
    """The error of an address, from what the system said of it: event loops put words of their own around that."""
    reason = "that is no name of a host" if isinstance(error, UnicodeError) else str(error)
    if isinstance(error, OSError) and error.errno is not None:
        reason = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)  # names have numbers below 0
    return CannotListen(f"cannot listen on {host}:{port}: {reason}; choose another --host or --port")
