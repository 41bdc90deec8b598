"""Long work of Python beside requests: what it allocates and how it shares the interpreter must not be felt by them.

Measured with a policy of 10,000 tenants (benchmarks/bench_reload.py): its million objects made the collector look
through the whole heap in the middle of the load, which stopped every request for up to 0.6 s; and with Python's own
interval, each step of a request waited 5 ms for its turn.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

TURN_S: Final = 0.0005  # how long a thread may keep the interpreter while another waits for it


@dataclass
class _Interpreter:
    """How the interpreter was set before the first who is in `considerate` came in, and how many are."""

    inside: int = 0
    interval_s: float = 0.0
    collecting: bool = True


_INTERPRETER: Final = _Interpreter()  # there is one in a process


@contextmanager
def considerate() -> Iterator[None]:
    """While a thread works: it gives way often, and nothing is collected. For the event loop's own thread; several may
    be in it at once, and the last one that leaves sets everything back.
    """
    before = _INTERPRETER
    if before.inside == 0:
        before.interval_s, before.collecting = sys.getswitchinterval(), gc.isenabled()
        sys.setswitchinterval(TURN_S)
        gc.disable()
    before.inside += 1
    try:
        yield
    finally:
        before.inside -= 1
        if before.inside == 0:
            sys.setswitchinterval(before.interval_s)
            if before.collecting:
                gc.enable()


def settled() -> None:
    """What exists by now is to stay for long: the collector never looks at it again.

    What requests under way have made stays out of its sight too. It is freed when nothing refers to it any more; only
    cycles among it are not, of which a request makes next to none.
    """
    gc.freeze()
