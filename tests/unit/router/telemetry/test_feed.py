"""The feed of requests that ended."""

from __future__ import annotations

from router.telemetry.events import AttemptEnded, RequestEnded
from router.telemetry.feed import FOR_OTHERS_AT_MOST, KEPT_AT_MOST, LISTENERS_AT_MOST, UNENDED_AT_MOST, Feed, Listener


def ended(number: int = 1, *, tenant: str = "acme", attempts: int = 1, outcome: str = "served") -> RequestEnded:
    return RequestEnded(
        request_id=f"req_{number}",
        tenant=tenant,
        key_id=f"{tenant}-key",
        endpoint="/v1/chat/completions",
        request_class="chat",
        tier="standard",
        pool="mid" if outcome == "served" else None,
        outcome=outcome,
        status=200,
        error_code=None,
        attempts=attempts,
        stream=False,
        duration_us=5,
        ttft_us=None,
        charge_nusd=7,
        prompt_tokens=1,
        completion_tokens=2,
        at_us=number,
    )


def attempt(request: int, number: int, outcome: str) -> AttemptEnded:
    return AttemptEnded(f"req_{request}", number, "mid", "L4", "chat", outcome, "", 0, 1, None)


async def heard(listener: Listener) -> list[str]:
    return [one.request_id for one in await listener.news(0)]


async def test_a_listener_hears_what_ends_while_it_listens() -> None:
    """In order, each once, its own tenant's alone unless it may hear all."""
    feed = Feed()
    feed.emit(ended(0))
    with feed.listening("acme") as mine, feed.listening(None) as every:
        for number, tenant in enumerate(("acme", "globex", "acme"), 1):
            feed.emit(ended(number, tenant=tenant))
        assert await heard(mine) == ["req_1", "req_3"]
        assert await heard(every) == ["req_1", "req_2", "req_3"]
        assert await heard(every) == []
    feed.emit(ended(4))
    assert await heard(every) == []


async def test_failed_attempts_are_told_with_their_request() -> None:
    """Also those that failed before anybody listened."""
    feed = Feed()
    feed.emit(attempt(1, 1, "unavailable"))
    with feed.listening(None) as listener:
        feed.emit(attempt(1, 2, "answered"))
        feed.emit(ended(1, attempts=2))
        feed.emit(attempt(2, 1, "timeout"))
        feed.emit(ended(2, attempts=1, outcome="refused"))
        ways = [[(each.number, each.outcome) for each in one.attempts] for one in await listener.news(0)]
    assert ways == [[(1, "unavailable"), (2, "answered")], [(1, "timeout")]]


async def test_what_is_kept_is_bounded() -> None:
    """A listener that does not read loses the oldest; requests that never end lose their attempts."""
    feed = Feed()
    with feed.listening(None) as listener:
        for number in range(KEPT_AT_MOST + 10):
            feed.emit(ended(number))
        assert (await heard(listener))[0] == "req_10"
        for number in range(UNENDED_AT_MOST + 1):
            feed.emit(attempt(number, 1, "unavailable"))
        for number in (0, 1):
            feed.emit(ended(number, attempts=1, outcome="refused"))
        assert [len(one.attempts) for one in await listener.news(0)] == [0, 1]


async def test_what_ends_is_kept_for_others_while_they_watch() -> None:
    """From when they begin, each once, the newest of too many; nothing before and nothing after."""
    feed = Feed()
    feed.emit(ended(0))
    assert feed.for_others() == []
    feed.others_watch(True)
    feed.emit(attempt(1, 1, "unavailable"))
    feed.emit(ended(1, attempts=2))
    feed.others_watch(True)
    [told] = feed.for_others()
    assert (told.request_id, [each.outcome for each in told.attempts]) == ("req_1", ["unavailable", "answered"])
    assert feed.for_others() == []
    for number in range(FOR_OTHERS_AT_MOST + 3):
        feed.emit(ended(number))
    assert [one.request_id for one in feed.for_others()] == [f"req_{n + 3}" for n in range(FOR_OTHERS_AT_MOST)]
    feed.emit(ended(1))
    feed.others_watch(False)
    feed.others_watch(True)
    assert feed.for_others() == []


async def test_what_ended_elsewhere_is_told_like_what_ended_here() -> None:
    """To those who may see it, and never back to where it came from."""
    elsewhere, feed = Feed(), Feed()
    elsewhere.others_watch(True)
    feed.others_watch(True)
    for number, tenant in enumerate(("acme", "globex")):
        elsewhere.emit(ended(number, tenant=tenant))
    assert not feed.watched
    with feed.listening("acme") as mine, feed.listening(None) as every:
        assert feed.watched
        feed.heard(elsewhere.for_others())
        assert await heard(mine) == ["req_0"]
        assert await heard(every) == ["req_0", "req_1"]
    assert feed.for_others() == []


async def test_a_feed_is_full_at_some_point_and_closes_at_the_end() -> None:
    """Places are given back; who listens, or comes after the end, is told that it is over."""
    feed = Feed()
    listening = [feed.listening(None) for _ in range(LISTENERS_AT_MOST)]
    listeners = [each.__enter__() for each in listening]
    assert feed.full
    listening.pop().__exit__(None, None, None)
    assert not feed.full
    feed.close()
    assert listeners[0].closed
    with feed.listening(None) as late:
        assert late.closed
    for each in listening:
        each.__exit__(None, None, None)
