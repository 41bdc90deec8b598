"""What a start gives back of how long answers are: from either kind of ledger, once, and without being waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from policies.predict.expect import FROM_HISTORY, Expected
from pricing.clock import US_PER_S, ManualClock
from pricing.ledger.place import LedgerPlace, PostgresUrl
from pricing.ledger.upgrade import ensure_current
from router.learning.examples import Sample
from router.service.past_answers import PAGE, PastAnswers
from router.serving.expectation import MEANWHILE_AT_MOST, OutputExpectation
from support.answers import BEGIN_US, predictable, write_ledger
from support.ledgers import recent_requests
from support.money import request
from support.shared_ledger import fill, fill_file

LATER_US = BEGIN_US + 10_000 * US_PER_S
KNOWN, UNKNOWN = "lengths of past answers are known", "lengths of past answers are not known"


def taught(samples: Sequence[Sample]) -> OutputExpectation:
    """By answers as they came."""
    expectation = OutputExpectation()
    for each in samples:
        expectation.observe(each.question, each.tokens)
    return expectation


def expected(expectation: OutputExpectation, samples: Sequence[Sample]) -> list[tuple[Expected, int | None]]:
    """All that can be asked about the samples' tenants and their kinds of requests."""
    return [
        (
            expectation.outlook(FROM_HISTORY, each.question, 1 << 20).expected,
            expectation.running(each.question.tenant, each.question.request_class),
        )
        for each in samples
    ]


def recalling(place: LedgerPlace, expectation: OutputExpectation, started_us: int = LATER_US) -> PastAnswers:
    return PastAnswers(place, expectation, ManualClock(started_us))


@pytest.fixture(autouse=True)
def listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "sluice")


async def test_a_restart_knows_what_was_known_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Everything is expected as if the process had gone on, over more answers than a page holds."""
    samples = predictable(2 * PAGE + 10)
    await asyncio.to_thread(write_ledger, tmp_path / "ledger.sqlite", samples)
    expectation = OutputExpectation()
    await recalling(tmp_path / "ledger.sqlite", expectation).recall()
    assert expected(expectation, samples) == expected(taught(samples), samples)
    assert caplog.messages == [KNOWN]


async def test_a_database_gives_back_the_same(tmp_path: Path, postgres_url: str) -> None:
    """Replicas know what all of them have answered."""
    samples, path, url = predictable(60), tmp_path / "ledger.sqlite", PostgresUrl(postgres_url)
    await asyncio.to_thread(write_ledger, path, samples)
    ensure_current(url)
    await fill(url, (), recent_requests(path, 60))
    expectation = OutputExpectation()
    await recalling(url, expectation).recall()
    assert expected(expectation, samples) == expected(taught(samples), samples)


async def test_what_comes_meanwhile_counts_once_and_last(tmp_path: Path) -> None:
    """Requests asked for after the start are in the ledger by the time it is read, and are learnt as they are answered:
    before the reading, and after it.
    """
    samples = predictable(300)
    await asyncio.to_thread(write_ledger, tmp_path / "ledger.sqlite", samples)
    expectation, reached = OutputExpectation(), asyncio.Event()
    past = recalling(tmp_path / "ledger.sqlite", expectation, samples[100].at_us)
    recall = asyncio.create_task(past.recall(reached))
    await asyncio.sleep(0)
    for each in samples[100:250]:
        expectation.observe(each.question, each.tokens)
    assert expected(expectation, samples) == expected(taught(samples[100:250]), samples)  # nobody waits for it
    reached.set()
    await recall
    for each in samples[250:]:
        expectation.observe(each.question, each.tokens)
    assert expected(expectation, samples) == expected(taught(samples), samples)


async def test_only_complete_answers_with_tokens_teach(tmp_path: Path) -> None:
    """As `sluice train` reads them: no pictures, nothing refused, broken or left."""
    fill_file(
        tmp_path / "ledger.sqlite",
        (),
        [
            request("picture", prompt_tokens=None, completion_tokens=None, images=1),
            *(request(each, outcome=each) for each in ("refused", "broken", "client_gone", "failed")),
        ],
    )
    expectation = OutputExpectation()
    await recalling(tmp_path / "ledger.sqlite", expectation).recall()
    assert expected(expectation, predictable(5)) == expected(OutputExpectation(), predictable(5))


async def test_a_ledger_that_is_away_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing else happens: what comes meanwhile and later is learnt."""
    samples = predictable(50)
    expectation, reached = OutputExpectation(), asyncio.Event()
    recall = asyncio.create_task(recalling(tmp_path / "none.sqlite", expectation).recall(reached))
    await asyncio.sleep(0)
    for each in samples[:25]:
        expectation.observe(each.question, each.tokens)
    reached.set()
    await recall
    for each in samples[25:]:
        expectation.observe(each.question, each.tokens)
    assert expected(expectation, samples) == expected(taught(samples), samples)
    [record] = caplog.records
    assert (record.message, record.levelname) == (UNKNOWN, "WARNING")


async def test_an_empty_ledger_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A first start reads nothing and says so."""
    ensure_current(tmp_path / "ledger.sqlite")
    await recalling(tmp_path / "ledger.sqlite", OutputExpectation()).recall()
    [record] = caplog.records
    assert (record.message, record.__dict__["fields"]) == (KNOWN, {"answers": 0})


async def test_a_ledger_that_comes_too_late_is_not_read_back(tmp_path: Path) -> None:
    """Once so many were answered that keeping them would cost more than old ones say, those stay in force."""
    samples = predictable(40)
    await asyncio.to_thread(write_ledger, tmp_path / "ledger.sqlite", samples)
    expectation, reached = OutputExpectation(), asyncio.Event()
    recall = asyncio.create_task(recalling(tmp_path / "ledger.sqlite", expectation).recall(reached))
    await asyncio.sleep(0)
    for _ in range(MEANWHILE_AT_MOST):
        expectation.observe(samples[0].question, 7)
    reached.set()
    await recall
    assert expectation.running(samples[0].question.tenant, "chat") == 7
    assert expectation.running(samples[1].question.tenant, "chat") is None
