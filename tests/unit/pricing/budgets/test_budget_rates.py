"""Rate limits in the budget book: a minute that slides, what it gives back, and who is refused by what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.budgets.book import BudgetBook
from pricing.budgets.caps import CapTable, Dimension, RateLimits, Scope, parse_scope
from pricing.budgets.rates import ScopeRates
from pricing.budgets.store import OpenHold, RateStanding, RateStatus, Standing
from pricing.clock import US_PER_S
from pricing.errors import BudgetExceeded, RateLimited
from support.money import ACME, GLOBEX, POOL, UTC, cap, caps, wish
from support.values import replace

NOON = 1_767_268_800 * US_PER_S
KEY = parse_scope("key:k1")
MINUTE_US = 60 * US_PER_S

steps = st.lists(
    st.tuples(st.integers(0, 40_000_000), st.integers(0, 30), st.integers(-30, 30)), min_size=1, max_size=60
)  # microseconds that pass, tokens of a request, and how many more it turns out to take


def limited(*limits: tuple[Scope, RateLimits], table: CapTable | None = None) -> BudgetBook:
    table = table or caps(zone=UTC)
    return BudgetBook(CapTable(table.caps, table.timezone, dict(limits)), NOON, lambda _: None)


def ask(number: int, tokens: int = 0, anchor_us: int | None = None, *scopes: Scope) -> OpenHold:
    return replace(wish(f"r{number}:1", 1, *(scopes or (ACME, KEY, POOL)), anchor_us=anchor_us), tokens=tokens)


# -- a minute ----------------------------------------------------------------------------------------------------------


@given(steps=steps, limit=st.integers(0, 5), token_limit=st.integers(0, 60))
def test_no_minute_holds_more_than_the_limit(steps: list[tuple[int, int, int]], limit: int, token_limit: int) -> None:
    """Whatever is asked when: within any 60 seconds no more than the limit passed, and who waits 65 is let through."""
    rates = ScopeRates(ACME, RateLimits(limit, token_limit))
    now_us = NOON
    passed: list[tuple[int, int]] = []
    for wait_us, tokens, _ in steps:
        now_us += wait_us
        if rates.refusal(tokens, 0, now_us) is None:
            rates.count(tokens, now_us)
            passed.append((now_us, tokens))
            minute = [each for at_us, each in passed if at_us > now_us - MINUTE_US]
            assert len(minute) <= limit
            assert sum(minute) <= token_limit
        else:
            lately = [each for at_us, each in passed if at_us > now_us - MINUTE_US - 5 * US_PER_S]
            assert len(lately) + 1 > limit or sum(lately) + tokens > token_limit


@given(steps=steps, limit=st.integers(0, 60))
def test_slots_say_what_a_list_of_all_requests_says(steps: list[tuple[int, int, int]], limit: int) -> None:
    """Counts and corrections by slot equal those summed anew from every request of the thirteen slots."""
    rates = ScopeRates(ACME, RateLimits(tokens_per_minute=limit))
    now_us = NOON
    passed: list[list[int]] = []
    for wait_us, tokens, more in steps:
        now_us += wait_us
        slot = now_us // (5 * US_PER_S)
        used = sum(each[1] for each in passed if each[0] > slot - 13)
        standing = rates.standing(Dimension.TOKENS, now_us)
        assert standing is not None
        assert (standing.remaining, rates.tokens) == (max(0, limit - used), used)
        assert (rates.refusal(tokens, 0, now_us) is None) == (used + tokens <= limit)
        rates.count(tokens, now_us)
        rates.correct(now_us, max(more, -tokens))
        passed.append([slot, tokens + max(more, -tokens)])


@given(steps=steps, limit=st.integers(1, 5))
def test_who_comes_back_when_told_to_is_let_through(steps: list[tuple[int, int, int]], limit: int) -> None:
    """`retry_after_s` is the first instant at which the request fits, if nobody else comes."""
    rates = ScopeRates(ACME, RateLimits(limit, 30))
    now_us = NOON
    for wait_us, tokens, _ in steps:
        now_us += wait_us
        refused = rates.refusal(tokens, 0, now_us)
        if refused is not None:
            assert refused.retry_after_s is not None
            then_us = now_us + round(refused.retry_after_s * US_PER_S)
            assert rates.refusal(tokens, 0, then_us - 1) is not None
            assert rates.refusal(tokens, 0, then_us) is None or refused.dimension == "requests"
            now_us = then_us
        if rates.refusal(tokens, 0, now_us) is None:
            rates.count(tokens, now_us)


def test_a_clock_that_steps_back_frees_nothing_and_does_not_stop_the_minute() -> None:
    """What was counted before an hour's step back counts for one more minute, not for an hour."""
    book = limited((ACME, RateLimits(requests_per_minute=1)))
    book.open(ask(1), NOON, 0)
    back = NOON - 3_600 * US_PER_S
    with pytest.raises(RateLimited):
        book.open(ask(2), back, 0)
    book.open(ask(2), back + 65 * US_PER_S, 0)


# -- in the book -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "second", "dimension", "wait_s", "told"),
    [
        (
            RateLimits(1, 100),
            ask(2),
            "requests",
            63.0,
            "rate limit of tenant `acme`: needs 1, 0 of 1 requests per minute are left; try again in 63 s, "
            "or raise requests_per_minute",
        ),
        (
            RateLimits(9, 100),
            ask(2, 50),
            "tokens",
            63.0,
            "rate limit of tenant `acme`: needs 50, 40 of 100 tokens per minute are left; try again in 63 s, "
            "or raise tokens_per_minute",
        ),
        (
            RateLimits(9, 100),
            ask(2, 101),
            "tokens",
            None,
            "rate limit of tenant `acme`: needs 101 tokens, the whole limit is 100 per minute; ask for less, "
            "or raise tokens_per_minute",
        ),
        (
            RateLimits(9, 100, 1),
            ask(2, 40),
            "in_flight",
            None,
            "rate limit of tenant `acme`: 1 of 1 requests are in flight; wait until one ends, or raise in_flight",
        ),
    ],
)
def test_the_message_says_whose_limit_what_is_left_and_when_to_come_back(
    limits: RateLimits, second: OpenHold, dimension: str, wait_s: float | None, told: str
) -> None:
    """Each dimension has its sentence, with the key of the policy file that raises it."""
    book = limited((ACME, limits))
    book.open(ask(1, 60), NOON, 0)
    with pytest.raises(RateLimited) as refused:
        book.open(second, NOON + 2 * US_PER_S, 0)
    assert str(refused.value) == told
    assert (refused.value.scope, refused.value.dimension) == ("tenant:acme", dimension)
    assert refused.value.retry_after_s == wait_s


def test_caps_are_asked_before_limits_and_a_refusal_counts_nothing() -> None:
    """Who lacks money is told so; neither kind of refusal leaves a trace in any scope."""
    book = limited((ACME, RateLimits(requests_per_minute=2)), (KEY, RateLimits(0)), table=caps(cap(5)))
    with pytest.raises(BudgetExceeded):
        book.open(replace(ask(1), amount_nusd=6), NOON, 0)
    with pytest.raises(RateLimited, match="key `k1`"):
        book.open(ask(2), NOON, 0)
    assert [(status.used, status.limit) for status in book.rate_statuses(NOON)] == [(0, 2), (0, 0)]
    assert book.room([ACME], NOON).left_nusd == 5


def test_an_attempt_that_goes_on_is_neither_counted_nor_refused() -> None:
    """Only a request's first hold counts; its later attempts pass a limit that is reached, in flight included."""
    book = limited((ACME, RateLimits(1, 10, 1)))
    first = book.open(ask(1, 10), NOON, 0)
    book.open(ask(2, 10, first.anchor_us), NOON, 0)
    assert [status.used for status in book.rate_statuses(NOON)] == [1, 10, 2]


def test_tokens_that_were_not_used_are_given_back_to_the_minute_of_the_request() -> None:
    """A settlement corrects the slot of the first hold, so that they leave the minute with it."""
    book = limited((ACME, RateLimits(tokens_per_minute=100)))
    book.open(ask(1, 80), NOON, 0)
    later = NOON + 30 * US_PER_S
    with pytest.raises(RateLimited):
        book.open(ask(2, 30), later, 0)
    book.settle("r1:1", 1, later, more_tokens=-50)
    book.open(ask(2, 30), later, 0)
    assert book.rate_statuses(later)[0].used == 60
    assert book.rate_statuses(NOON + 65 * US_PER_S)[0].used == 30


def test_open_holds_are_what_is_in_flight() -> None:
    """Settled and expired holds are not; who was refused for them may come as soon as one has ended."""
    book = limited((ACME, RateLimits(in_flight=2)))
    for number in (1, 2):
        book.open(ask(number), NOON, 0)
    with pytest.raises(RateLimited, match="2 of 2 requests are in flight") as refused:
        book.open(ask(3), NOON, 0)
    assert refused.value.retry_after_s is None
    book.settle("r1:1", 0, NOON)
    book.open(ask(3), NOON, 0)
    assert len(book.expire(NOON, 30 * US_PER_S)) == 2
    assert book.rate_statuses(NOON) == [RateStatus(ACME, Dimension.IN_FLIGHT, 2, 0, None)]


def test_steps_that_could_not_be_written_are_taken_back() -> None:
    """An undone opening is not counted, an undone settlement has the tokens as before and runs again."""
    book = limited((ACME, RateLimits(5, 100, 5)))
    before = book.rate_statuses(NOON)
    held = book.open(ask(1, 40), NOON, 0)
    opened = book.rate_statuses(NOON)
    book.settle("r1:1", 1, NOON, more_tokens=-30)
    assert [status.used for status in book.rate_statuses(NOON)] == [1, 10, 0]
    book.undo_end(held, 1, -30)
    assert book.rate_statuses(NOON) == opened
    book.undo_open(held)
    assert [status.used for status in book.rate_statuses(NOON)] == [status.used for status in before]


def test_editing_a_limit_keeps_what_was_counted() -> None:
    """A limit that is lowered sees the minute so far; one that is taken away and set again begins anew."""
    book = limited((ACME, RateLimits(5)))
    book.open(ask(1), NOON, 0)
    book.replace_caps(CapTable((), UTC, {ACME: RateLimits(1)}), NOON)
    with pytest.raises(RateLimited):
        book.open(ask(2), NOON, 0)
    book.replace_caps(CapTable((), UTC), NOON)
    book.open(ask(2), NOON, 0)
    book.replace_caps(CapTable((), UTC, {ACME: RateLimits(1, None, 2)}), NOON)
    assert [status.used for status in book.rate_statuses(NOON)] == [0, 2]


def test_a_hold_says_how_its_scopes_stand() -> None:
    """The tightest cap, and of each rate the limit with least left."""
    table = caps(cap(100), cap(50, scope="pool:l4"))
    book = limited((ACME, RateLimits(10, 1_000)), (KEY, RateLimits(3)), table=table)
    standing = book.standing(book.open(ask(1, 200), NOON, 0), NOON + 5 * US_PER_S)
    assert standing == Standing(49, RateStanding(3, 2, 60.0), RateStanding(1_000, 800, 60.0))


def test_other_scopes_are_not_limited() -> None:
    """A limit is its tenant's own."""
    book = limited((ACME, RateLimits(0)))
    assert book.standing(book.open(ask(1, 5, None, GLOBEX), NOON, 0), NOON) == Standing()
