"""Pages of the dashboard, drawn from what the API may have answered."""

from __future__ import annotations

import re
from typing import Any

import pytest

from router.dashboard.overview import Overview, Tiles
from router.dashboard.pages import render

PANELS = ("health", "spend", "caps", "charts", "pools", "feed", "fallbacks", "policy")
HEALTH = {
    "ready": True,
    "simulated": False,
    "store": "up",
    "policy_problems": 0,
    "policy_version": "new",
    "price_book": "b",
}
SIMULATED = {**HEALTH, "simulated": True}
POLICY = {"version": "new", "price_book": "b", "loaded_at": 1e9, "problems": [], "files": [], "changes": []}


def source_of(health: dict[str, Any] = HEALTH, **known: Any) -> str:
    """An admin's first page."""
    key = {"id": "k", "tenant": "ops", "rights": ["admin"]}
    page = Overview("2026-11-21 10:00:00", "2026-11-01", key, health, True, troubles=dict.fromkeys(PANELS, ""), **known)
    return render("overview.html", overview=page, theme=None, signed_in=True)


def drawn(**known: Any) -> str:
    """Its text."""
    return " ".join(re.sub("<[^>]*>", "", source_of(**known)).split())


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"previous": None}, "No version before this one is known."),
        (
            {"previous": {"version": "old", "price_book": "a", "loaded_at": 9e8}},
            "price book b has come into force, after a.",
        ),
        (
            {"previous": {"version": "old", "price_book": "b", "loaded_at": 9e8}},
            "another catalogue of pools and models",
        ),
        (
            {"previous": {"version": "old", "price_book": "b", "loaded_at": 9e8}, "changes": None},
            "Its files are not kept any more.",
        ),
    ],
)
def test_a_new_version_says_what_is_new(policy: dict[str, Any], said: str) -> None:
    """Also where no file has changed: then it is the prices in force, or what another release brought."""
    text = drawn(policy={**POLICY, **policy})
    assert said in text
    assert ("Changed from old of 1998-07-09 16:00:00" in text) is (policy["previous"] is not None)


def test_many_changed_files_are_folded() -> None:
    """Two are shown at once; more are lines that open, so that the page stays one that is read."""
    change = {"change": "changed", "diff": "--- a\n+++ b\n@@ -1 +1 @@\n-old <line>\n+new\n"}
    previous = {"version": "old", "price_book": "b", "loaded_at": 9e8}
    for count, folded in ((2, 0), (3, 3)):
        changes = [{"file": f"{number}.yaml", **change} for number in range(count)]
        source = source_of(policy={**POLICY, "previous": previous, "changes": changes})
        assert source.count('<details class="diff">') == folded
        assert source.count("<del>-old &lt;line&gt;") == source.count("<ins>+new") == count


def test_breakers_are_those_of_a_named_replica_where_there_are_several() -> None:
    """A single process has no name that anybody needs."""
    assert "breakers of replica eu-1" in drawn(replica="eu-1")
    assert "of replica" not in drawn()


@pytest.mark.parametrize(
    ("nusd", "share", "says"),
    [
        (12_000_000_000, 0.25, "Saved on busy time, this month $12.00 25% of its baseline"),
        (-12_000_000_000, -0.25, "Lost on busy time, this month $12.00 25% of its baseline"),
        (None, None, "Saved on busy time, this month – nothing served yet"),
    ],
)
def test_what_was_lost_is_not_called_saved(nusd: int | None, share: float | None, says: str) -> None:
    """The words of reports, with no sign that somebody may miss; programs read the signed amount."""
    tiles = Tiles(0, 0, 0, 0, False, nusd, share, "all on big", 0, 0, 0, 0)
    assert says in " ".join(re.sub("<[^>]*>", " ", source_of(tiles=tiles)).split())
    assert f'id="saving"><data value="{"" if nusd is None else nusd}"' in source_of(tiles=tiles).replace("\n  ", "")


@pytest.mark.parametrize(("adjusted", "apart"), [(False, "boot and idle"), (True, "boot, idle and adjustments")])
def test_an_adjustment_is_called_one(adjusted: bool, apart: str) -> None:
    """What a bill took back is no idle time, least of all a negative amount of it."""
    tiles = Tiles(0, 0, 0, -2_000_000_000, adjusted, 1_000_000_000, 0.5, "all on big", 0, 0, 0, 0)
    said = " ".join(re.sub("<[^>]*>", " ", source_of(tiles=tiles)).split())
    assert f"-$2.0000 of it {apart}" in said
    assert f"50% of its baseline; {apart} ( -$2.0000 ) in neither side" in said


def test_nobody_takes_a_trial_for_the_real_thing() -> None:
    """Where pools are simulated, the head of the page says so."""
    assert "Pools are simulated" in drawn(health=SIMULATED)
    assert "simulated" not in drawn()
