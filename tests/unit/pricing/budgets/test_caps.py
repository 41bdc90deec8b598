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
from support.money import cap, caps


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


@pytest.mark.parametrize("text", ["0%", "101%", "80", "80.05%", "most", "", "nan", "inf"])
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


def test_a_table_knows_its_caps_by_scope_and_by_name() -> None:
    """What requests and pages look up is made with the table; a name that no cap has finds none."""
    table = caps(cap(1), cap(2, scope="pool:l4"), cap(3, name="week"), cap(4, scope="endpoint:/v1/chat/completions"))
    assert [[each.amount_nusd for each in some] for some in table.by_scope.values()] == [[1, 3], [2], [4]]
    assert table.pools == (parse_scope("pool:l4"),)
    assert [table.find(each.label) for each in table.caps] == list(table.caps)
    assert [table.find(text) for text in ("acme/month", "nobody/day", "day", "person:acme/day", "")] == [None] * 5


def test_a_table_keeps_the_caps_of_the_one_before_that_are_equal() -> None:
    """Where they stand in their file does not count; a scope with any other change has new ones."""
    before = caps(cap(1), cap(2, scope="pool:l4"), cap(3, name="week"))
    after = caps(cap(1, place="a:9"), cap(2, scope="pool:l4", place="a:10"), cap(4, name="week")).keeping(before)
    assert [new is old for new, old in zip(after.caps, before.caps, strict=True)] == [False, True, False]
    assert [each.amount_nusd for each in after.caps] == [1, 2, 4]
