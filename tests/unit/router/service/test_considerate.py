"""How long work of a thread treats the interpreter that requests share with it."""

from __future__ import annotations

import gc
import sys

from router.service.considerate import TURN_S, considerate


def test_the_last_to_leave_sets_everything_back() -> None:
    """Two that overlap, and do not end in the order of stacks: meanwhile turns stay short and nothing is collected."""
    before = sys.getswitchinterval(), gc.isenabled()
    first, second = considerate(), considerate()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    inside = sys.getswitchinterval(), gc.isenabled()
    second.__exit__(None, None, None)
    assert abs(inside[0] - TURN_S) < 1e-6
    assert not inside[1]
    assert (sys.getswitchinterval(), gc.isenabled()) == before
