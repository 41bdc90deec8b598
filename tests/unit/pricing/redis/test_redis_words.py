"""Steps as commands on the wire: packed by us from parts, they are what hiredis makes of the same words."""

from __future__ import annotations

from dataclasses import replace

import hiredis
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pricing.budgets.caps import RateLimits, Scope, ScopeKind
from pricing.budgets.store import MeterEntry, OpenHold, Settlement
from pricing.ledger.entries import value_json
from pricing.redis.client import evalsha_head
from pricing.redis.connection import bulk
from pricing.redis.packing import CapPacker
from pricing.redis.scripts import script_of
from pricing.redis.views import Views
from pricing.redis.wishes import SETTLEMENT_WORDS, WISH_WORDS, settlement_words, wish_words
from support.money import ACME, GLOBEX, POOL, cap, caps, request

NOW_US = 1_795_000_000_000_000
REQUEST = request("r")
LIMITS = {ACME: RateLimits(60, None, 5), Scope(ScopeKind.KEY, "k"): RateLimits(tokens_per_minute=2**40)}
TABLE = replace(caps(cap(5, "24h"), cap(2**40, "1mo", name="month"), cap(7, scope="pool:l4")), limits=LIMITS)
RAISED = replace(caps(cap(6, "24h"), cap(9, scope="tenant:globex")), limits={GLOBEX: RateLimits(1)})
SCOPES = st.sampled_from((ACME, GLOBEX, POOL, *LIMITS, Scope(ScopeKind.TAG, "batch"), Scope(ScopeKind.CLASS, "chat")))
SCRIPT = script_of("nothing", b"return 1")
WORDS = st.one_of(st.binary(max_size=2_000), st.text(st.characters(exclude_categories=["Cs"])), st.integers())
AMOUNTS = st.integers(0, 2**53 - 1)


def words_of(parts: tuple[bytes, ...], count: int) -> list[bytes]:
    """The words that a server reads from parts."""
    reader = hiredis.Reader()
    reader.feed(b"*%d\r\n" % count + b"".join(parts))
    words: list[bytes] = reader.gets()
    assert not reader.has_data()
    return words


@given(args=st.lists(WORDS, max_size=8))
def test_a_command_of_ours_is_that_of_hiredis(args: list[str | bytes | int]) -> None:
    """Heads and words put together are the same bytes, whatever is in the words."""
    keys = ("{sluice}:", b"second")
    whole = (b"EVALSHA", SCRIPT.sha, len(keys), *keys, *args)
    ours = evalsha_head(SCRIPT, keys, len(args)) + b"".join(map(bulk, args))
    assert ours == hiredis.pack_command(whole)  # type: ignore[arg-type] # its stub knows one word only


@given(asked=st.lists(st.lists(SCOPES, max_size=5), max_size=5))
def test_caps_are_the_same_words_in_every_set_of_scopes(asked: list[list[Scope]]) -> None:
    """What is remembered of a scope is what encoding its caps and limits anew gives, before and after a reload."""
    for table in (TABLE, RAISED, TABLE):
        views = Views(TABLE)
        packer = CapPacker(TABLE, views, NOW_US)
        for scopes in asked:
            packer.pack(scopes)
        views.replace(table)
        packer.replace(table)
        anew = CapPacker(table, Views(table), NOW_US)
        for scopes in asked:
            packed = packer.pack(scopes)
            assert packed.word == anew.pack_anew(scopes).word == anew.encode(packed.scopes, packed.seen)
            assert [seen.cap for seen in packed.seen] == [
                cap for scope in packed.scopes for cap in table.by_scope.get(scope, ())
            ]


@given(amount=AMOUNTS, anchor=st.none() | st.integers(0, 2**52), weight=st.integers(1, 2**40), tokens=AMOUNTS)
def test_what_is_asked_of_a_hold_arrives_exactly(amount: int, anchor: int | None, weight: int, tokens: int) -> None:
    """Every number of a wish and of a settlement is read as it was meant, up to the largest that scripts count."""
    scopes = (Scope(ScopeKind.TENANT, "acme"), Scope(ScopeKind.POOL, "l4"))
    packed = CapPacker(caps(), Views(caps()), NOW_US).pack(scopes)
    wish = OpenHold("h", "r", scopes, amount, 0.25, anchor, tokens=tokens, meter=MeterEntry("l4", weight, tokens))
    word, terms, _ = words_of(wish_words(wish, packed, "one", 2**40, None), WISH_WORDS)
    assert bulk(word) == packed.word
    began = False if anchor is None else anchor
    asked = ["one", "h", amount, 250_000, began, tokens, "l4", weight, tokens, 2**40, False, ""]
    assert msgspec.msgpack.decode(terms) == asked
    parts = settlement_words(Settlement("h", amount, (), REQUEST, more_tokens=-tokens), packed, "one", "t", "settled")
    word, terms, rows, summary = words_of(parts, SETTLEMENT_WORDS)
    assert msgspec.msgpack.decode(terms) == ["one", "h", amount, False, -tokens, "t", "settled"]
    assert (bulk(word), rows, summary) == (packed.word, b"", value_json(REQUEST))
