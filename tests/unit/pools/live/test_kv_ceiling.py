"""What a pool is believed to hold after it ran out of memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pools.live.kv_ceiling import KEPT_SHARE, LONGEST_S, RISE, KvCeiling
from pricing.clock import US_PER_S

COOLDOWN_S = 300.0


def at(seconds: float) -> int:
    return round(seconds * US_PER_S)


def test_there_is_none_until_memory_runs_out() -> None:
    """The catalogue's figure counts."""
    assert KvCeiling().tokens(at(1e6)) is None


def test_it_stands_for_the_cooldown_and_then_rises_by_steps() -> None:
    """Each as long as the one before."""
    ceiling = KvCeiling()
    ceiling.out_of_memory(5_000, at(0), at(10), COOLDOWN_S)
    assert ceiling.tokens(at(10 + COOLDOWN_S - 1)) == round(5_000 * KEPT_SHARE)
    assert ceiling.tokens(at(10 + COOLDOWN_S)) == round(4_500 * RISE)
    assert ceiling.tokens(at(10 + 2 * COOLDOWN_S)) == round(4_500 * RISE**2)


def test_all_reports_of_one_batch_count_once() -> None:
    """Only a request dispatched under the new ceiling says anything about it."""
    ceiling = KvCeiling()
    for left in (5_000, 4_000, 3_000):
        ceiling.out_of_memory(left, at(5), at(10), COOLDOWN_S)
    assert ceiling.tokens(at(11)) == 4_500
    ceiling.out_of_memory(4_400, at(12), at(13), COOLDOWN_S)
    assert ceiling.tokens(at(14)) == round(4_400 * KEPT_SHARE)


def test_each_further_time_it_stands_twice_as_long() -> None:
    """What was confirmed is tried again less often, but always some day."""
    ceiling = KvCeiling()
    now_s = 0.0
    for times in range(20):
        ceiling.out_of_memory(5_000, at(now_s), at(now_s + 1), COOLDOWN_S)
        stands_s = min(COOLDOWN_S * 2**times, LONGEST_S)
        before, after = ceiling.tokens(at(now_s + stands_s)), ceiling.tokens(at(now_s + 1 + stands_s))
        assert before is not None
        assert after is not None
        assert before < after
        now_s += 2


def test_files_that_are_read_again_count() -> None:
    """An operator may have given the pool more memory."""
    ceiling = KvCeiling()
    ceiling.out_of_memory(5_000, at(0), at(1), COOLDOWN_S)
    ceiling.forget()
    assert ceiling.tokens(at(2)) is None


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 10**6)), min_size=1, max_size=30), st.floats(0, 10**8))
def test_it_is_below_what_was_too_much_last(reports: list[tuple[int, float]], later_s: float) -> None:
    """Right after each report, whatever came before; and it is a number for ever after."""
    ceiling = KvCeiling()
    now_s = 0.0
    for tokens, pause_s in reports:
        now_s += 1 + pause_s
        ceiling.out_of_memory(tokens, at(now_s), at(now_s), COOLDOWN_S)
        found = ceiling.tokens(at(now_s))
        assert found is not None
        assert 1 <= found <= max(1, tokens)
    assert ceiling.tokens(at(now_s + later_s)) is not None
