"""Which bytes of a request change on its way up, and how long a pool may take."""

from __future__ import annotations

import json

import pytest

from policies.policy import Limits
from pools.spec import TokenTerms
from pricing.clock import ManualClock
from router.serving.upstream import upstream_request
from support.chains import candidate, chain
from support.choosing import ladder, needs, rung
from support.values import replace

ASKED = replace(needs("chat", prompt=1_000, output=500), bounded=True)


async def test_the_pool_s_own_name_takes_the_place_of_the_class() -> None:
    """An engine knows its model by the name that it serves it under, and by no other."""
    under_way = chain(ManualClock(), ASKED, temperature=0.5)
    chosen = candidate(ASKED)
    request = upstream_request(under_way, chosen, ManualClock())
    assert json.loads(request.body) == {
        **json.loads(under_way.parsed.body),
        "model": chosen.pool.served_model_name,
    }
    assert (request.path, request.stream, request.request_id) == ("/v1/chat/completions", False, "req_1-0")


async def test_waits_end_by_the_request_s_own_deadlines() -> None:
    """Each timer is the shorter of what the pool may take and what the request has left."""
    clock = ManualClock()
    under_way = chain(clock, ASKED, stream=True)
    clock.advance(115)
    request = upstream_request(under_way, candidate(ASKED), clock)
    assert request.first_token_timeout_s == pytest.approx(5)  # of 120 to the first byte
    assert request.total_timeout_s == pytest.approx(485)  # of 600
    assert not request.first_token_by_client
    assert not request.total_by_client
    clock.advance(3_600)
    assert upstream_request(under_way, candidate(ASKED), clock).first_token_timeout_s == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_s_shorter_deadline_is_known_as_such(streamed: bool) -> None:
    """A timeout that is the client's own must not count against the pool."""
    clock = ManualClock()
    request = upstream_request(chain(clock, ASKED, client_s=3, stream=streamed), candidate(ASKED), clock)
    assert (request.first_token_timeout_s, request.total_timeout_s) == (3, 3)
    assert request.first_token_by_client
    assert request.total_by_client


async def test_a_client_s_deadline_beyond_the_first_token_ends_the_answer_as_the_client_s() -> None:
    """The pool has its own time for the first token; the end of the whole answer is the client's all the same."""
    clock = ManualClock()
    request = upstream_request(chain(clock, ASKED, client_s=60, stream=True), candidate(ASKED), clock)
    assert (request.first_token_timeout_s, request.first_token_by_client) == (pytest.approx(10), False)
    assert (request.total_timeout_s, request.total_by_client) == (60, True)


async def test_a_client_s_longer_deadline_changes_nothing() -> None:
    """A client may shorten what the policy allows, not stretch it."""
    clock = ManualClock()
    request = upstream_request(chain(clock, ASKED, client_s=5_000, stream=True), candidate(ASKED), clock)
    assert request == upstream_request(chain(clock, ASKED, stream=True), candidate(ASKED), clock)


async def test_a_trace_stays_among_pools_of_our_own() -> None:
    """An API that is billed by the token is somebody else's: what traces a client keeps is not told to it."""
    clock = ManualClock()
    under_way = chain(clock, ASKED)
    under_way.trace_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    chosen = candidate(ASKED)
    elsewhere = replace(chosen, pool=replace(chosen.pool, terms=TokenTerms("mini", (), 1.0, 50.0)))
    assert upstream_request(under_way, chosen, clock).headers == (("traceparent", under_way.trace_parent),)
    assert upstream_request(under_way, elsewhere, clock).headers == ()


async def test_a_stated_timeout_for_the_first_token_holds() -> None:
    """`first_token_timeout_s` of the policy replaces five times the prediction."""
    clock = ManualClock()
    stated = ladder(rung("qwen3-vl-8b-fp8-l4"), limits=Limits(first_token_timeout_s=7))
    under_way = chain(clock, ASKED, request_class=stated, stream=True)
    assert upstream_request(under_way, candidate(ASKED, stated), clock).first_token_timeout_s == 7


async def test_a_whole_answer_may_take_longer_the_longer_it_may_be() -> None:
    """Without a stream the first byte is the last: the time grows with the client's own bound, and is finite."""
    clock = ManualClock()
    short, long = (replace(ASKED, output_bound=bound) for bound in (100, 2_000))
    times = [
        upstream_request(chain(clock, asked), candidate(asked), clock).first_token_timeout_s for asked in (short, long)
    ]
    assert 10 < times[0] < times[1] < 600
