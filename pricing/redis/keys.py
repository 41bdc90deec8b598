"""Where things lie in Redis: every key of one installation begins with its namespace in braces.

The braces are a hash tag: all keys of a namespace lie in one slot, so that a step is one script on a cluster as well.
"""

from __future__ import annotations

import re
from typing import Final

LAYOUT: Final = 2  # version of the keys' layout; a replica that knows another one does not start on it
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


def prefix_of(namespace: str) -> bytes:
    """What every key of a namespace begins with. Raises ValueError for a name that could not be told from a key."""
    if not _NAME.fullmatch(namespace):
        raise ValueError(f"'{namespace}' is no namespace; use 1 to 100 letters, digits and any of _ . : -")
    return b"{%s}:" % namespace.encode()
