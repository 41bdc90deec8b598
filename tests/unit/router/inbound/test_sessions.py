"""Sessions: what makes two requests turns of one conversation, and what is kept of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse
from router.inbound.sessions import Sessions, Turn, session_asked

Message = dict[str, str]
SYSTEM: Message = {"role": "system", "content": "be brief"}


def said(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def chat(*messages: Message, **more: Any) -> Parsed:
    return parse(CHAT_PATH, json.dumps({"model": "m", "messages": messages, **more}).encode())


def turn(sessions: Sessions, parsed: Parsed, asked: str | None = "s", tenant: str = "acme") -> Turn:
    found = sessions.turn(tenant, asked, parsed)
    assert found is not None
    return found


def answered(sessions: Sessions, parsed: Parsed, asked: str | None = "s", **more: Any) -> None:
    sessions.answered(turn(sessions, parsed, asked, **more), "l4", 100, 7)


def goes_on(sessions: Sessions, parsed: Parsed, asked: str | None = "s", **more: Any) -> bool:
    return turn(sessions, parsed, asked, **more).cached is not None


def test_the_next_turn_knows_where_the_last_one_was() -> None:
    """Pool, tokens and instant of the last turn, where the prompt begins with that turn's."""
    sessions = Sessions()
    first = chat(SYSTEM, said("user", "one"))
    assert not goes_on(sessions, first)
    answered(sessions, first)
    cached = turn(sessions, chat(SYSTEM, said("user", "one"), said("assistant", "1"), said("user", "two"))).cached
    assert cached is not None
    assert (cached.pool, cached.tokens, cached.used_us) == ("l4", 100, 7)
    assert goes_on(sessions, first)  # the same once more


@pytest.mark.parametrize(
    "parsed",
    [
        chat(SYSTEM, said("user", "ones")),
        chat(said("user", "one"), said("assistant", "1")),
        chat(SYSTEM),
        chat(SYSTEM, said("user", "one"), tools=[{"type": "function", "function": {"name": "f"}}]),
    ],
    ids=["another text", "another beginning", "shorter", "other tools"],
)
def test_what_begins_otherwise_finds_nothing(parsed: Parsed) -> None:
    """A prefix cache is used up to the first token that differs."""
    sessions = Sessions()
    answered(sessions, chat(SYSTEM, said("user", "one")))
    assert not goes_on(sessions, parsed)


texts = st.text(max_size=6)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, max_size=4), st.lists(texts, min_size=1, max_size=4))
def test_only_what_begins_alike_goes_on(before: list[str], more: list[str], others: list[str]) -> None:
    """More messages behind the same ones always go on, messages that begin otherwise never do."""
    sessions = Sessions()
    answered(sessions, chat(*(said("user", text) for text in before)))
    assert goes_on(sessions, chat(*(said("user", text) for text in [*before, *more])))
    assert goes_on(sessions, chat(*(said("user", text) for text in others))) == (others[: len(before)] == before)


def test_one_tenants_sessions_are_not_anothers() -> None:
    """The same name with another tenant is another session, and another key upstream."""
    sessions = Sessions()
    parsed = chat(said("user", "one"))
    answered(sessions, parsed, tenant="acme")
    assert goes_on(sessions, parsed, tenant="acme")
    assert not goes_on(sessions, parsed, tenant="globex")
    assert turn(sessions, parsed, tenant="acme").key != turn(sessions, parsed, tenant="globex").key


def test_names_that_run_together_are_told_apart() -> None:
    """Tenant `a` with session `bc` is not tenant `ab` with session `c`; nor is a header the user of that name."""
    sessions, parsed = Sessions(), chat(said("user", "x"), user="bc")
    keys = {turn(sessions, parsed, "bc", "a").key, turn(sessions, parsed, "c", "ab").key}
    assert len({*keys, turn(sessions, parsed, None, "a").key}) == 3


def test_a_users_conversations_are_told_apart_by_how_they_begin() -> None:
    """One person, or a program that always sends one name, has many conversations: each has its own container."""
    sessions = Sessions()
    one, two = (chat(SYSTEM, said("user", text), user="u") for text in ("one", "two"))
    assert turn(sessions, one, None).key != turn(sessions, two, None).key
    answered(sessions, one, None)
    answered(sessions, two, None)
    later = chat(SYSTEM, said("user", "one"), said("assistant", "1"), said("user", "more"), user="u")
    assert turn(sessions, later, None).key == turn(sessions, one, None).key
    assert goes_on(sessions, later, None)


def test_completions_have_sessions_too() -> None:
    """Their prompt goes on as messages do; several prompts at once are no conversation."""

    def completion(prompt: object) -> Parsed:
        return parse(COMPLETIONS_PATH, json.dumps({"model": "m", "prompt": prompt, "user": "u"}).encode())

    sessions = Sessions()
    answered(sessions, completion("x" * 300))
    assert goes_on(sessions, completion("x" * 300 + " and more"))
    assert not goes_on(sessions, completion("y" * 300))
    assert sessions.turn("acme", "s", completion(["a", "b"])) is None
    answered(sessions, completion([1, 2]), None)
    assert not goes_on(sessions, completion([3, 2]), None)


def test_who_names_no_session_has_none() -> None:
    """Neither a header nor a user: nothing is looked up, kept or sent."""
    assert Sessions().turn("acme", None, chat(said("user", "one"))) is None


def test_the_least_recently_used_goes_first() -> None:
    """Memory is bounded: with room for two, the third pushes out the one not used for longest."""
    sessions, parsed = Sessions(most=2), chat(said("user", "one"))
    for name in ("a", "b", "a", "c"):
        answered(sessions, parsed, name)
    assert [goes_on(sessions, parsed, name) for name in ("a", "b", "c")] == [True, False, True]
    assert len(sessions) == 2


def test_neither_names_nor_texts_are_kept() -> None:
    """What is remembered, and what goes upstream, is a hash."""
    sessions = Sessions()
    answered(sessions, chat(said("user", "a secret"), user="jane@example.com"), None)
    answered(sessions, chat(said("user", "a secret")), "jane's session")
    kept = repr(vars(sessions))
    assert "jane" not in kept
    assert "secret" not in kept
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in vars(sessions)["_last"])


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ([], None),
        ([(b"x-session-id", b"a")], "a"),
        ([(b"x-session-id", b"a"), (b"x-sluice-session-id", b"b")], "b"),
        ([(b"x-sluice-session-id", b""), (b"x-session-id", b"a")], "a"),
        ([(b"x-sluice-session-id", b"\xff")], "ÿ"),
    ],
)
def test_headers_name_a_session(headers: list[tuple[bytes, bytes]], session: str | None) -> None:
    """Ours before the common one, an empty one is none."""
    assert session_asked(headers) == session
