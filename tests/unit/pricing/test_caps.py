"""How files write caps."""

import pytest

from pricing.budgets.caps import (
    Scope,
    ScopeKind,
    TemporaryRaise,
    Unlimited,
    parse_permille,
    parse_scope,
    parse_window,
)
from support.money import cap


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("7d", 604_800), ("30d", 2_592_000), ("90m", 5_400), ("1mo", None)]
)
def test_windows_that_files_may_use(text: str, seconds: int | None) -> None:
    """Hours, days and minutes roll; 1mo is a calendar month."""
    assert parse_window(text).rolling_s == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "-1h", "2mo", "1y", "24 h", "20m", "32d", "1.5h"])
def test_other_windows_are_refused(text: str) -> None:
    """A window that buckets of 15 minutes cannot count, or that nothing keeps, is no window."""
    with pytest.raises(ValueError, match="window"):
        parse_window(text)


def test_a_scope_is_a_kind_and_a_value() -> None:
    """The value may hold colons of its own."""
    assert parse_scope("tag:team:blue") == Scope(ScopeKind.TAG, "team:blue")
    assert str(parse_scope("tenant:acme")) == "tenant:acme"


@pytest.mark.parametrize("text", ["acme", "tenant:", "person:acme", ""])
def test_other_scopes_are_refused(text: str) -> None:
    """The message lists the kinds there are."""
    with pytest.raises(ValueError, match="tenant, key, class, pool, tag, endpoint"):
        parse_scope(text)


@pytest.mark.parametrize(("text", "permille"), [("80%", 800), ("0.8", 800), (0.9, 900), (1, 1000), ("99.5%", 995)])
def test_thresholds(text: str | float, permille: int) -> None:
    """A share is a percentage or a number up to 1."""
    assert parse_permille(text) == permille


@pytest.mark.parametrize("text", ["0%", "101%", "80", "80.05%", "most", ""])
def test_other_thresholds_are_refused(text: str) -> None:
    """80 without a sign is neither 80% nor a share."""
    with pytest.raises(ValueError, match=r"80%|between"):
        parse_permille(text)


def test_a_raise_holds_until_its_end_and_never_lowers() -> None:
    """The highest raise that has not ended is in force; one below the cap changes nothing."""
    raised = cap(
        100, raises=(TemporaryRaise(300, until_us=50), TemporaryRaise(200, until_us=80), TemporaryRaise(1, 90))
    )
    assert [raised.amount_at(us) for us in (0, 49, 50, 79, 80, 89, 90)] == [300, 300, 200, 200, 100, 100, 100]


def test_unlimited_stays_unlimited() -> None:
    """A raise on an unlimited cap has nothing to raise."""
    assert cap(Unlimited.UNLIMITED, raises=(TemporaryRaise(1, 10),)).amount_at(0) is Unlimited.UNLIMITED


def test_labels_are_what_people_type() -> None:
    """A tenant's cap goes by tenant and name; other scopes say their kind."""
    assert cap(1).label == "acme/day"
    assert cap(1, scope="pool:l4", name="month").label == "pool:l4/month"
