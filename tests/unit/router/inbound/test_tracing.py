"""What is taken of a client's `traceparent`: what the standard allows, and nothing that is not hexadecimal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.inbound.tracing import trace_id, trace_parent

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_trace_is_passed_on_as_it_came() -> None:
    """The example of the standard, with its trace's id."""
    found = trace_parent(f"00-{TRACE}-{PARENT}-01".encode())
    assert found == f"00-{TRACE}-{PARENT}-01"
    assert trace_id(found) == TRACE


def test_a_later_version_is_read_by_the_fields_that_are_known() -> None:
    """Also with more behind them; it goes on as version 00, without what nobody knows here."""
    for more in ("", "-what-the-future-will-be-like"):
        assert trace_parent(f"cc-{TRACE}-{PARENT}-01{more}".encode()) == f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        f"ff-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-01-more".encode(),
        f"00-{'0' * 32}-{PARENT}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00-{TRACE.upper()}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}".encode(),
        f"00-{TRACE}-{PARENT}-01\n".encode(),
        f" 00-{TRACE}-{PARENT}-01".encode(),
    ],
)
def test_what_the_standard_refuses_is_left_alone(value: bytes | None) -> None:
    """It is neither passed on nor logged; the request goes on without a trace."""
    assert trace_id(trace_parent(value)) is None


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*", fullmatch=True))
def test_whatever_comes_what_goes_on_is_a_header_of_one_shape(value: bytes) -> None:
    """No client can put anything else into a log or a request to a pool."""
    found = trace_parent(value)
    assert found is None or re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", found)
