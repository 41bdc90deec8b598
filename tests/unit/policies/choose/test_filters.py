"""Filters and objectives as a catalogue: one per reason, each explained by an example that is real."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

from policies.choose import objectives
from policies.choose.decision import Reason
from policies.choose.filters import POOL_FILTERS, PRICED_FILTERS
from policies.fallback import FALLBACK, Next
from policies.files.schema import ClassShape, PolicyFile
from policies.policy import Objective
from policies.requirements import Tier
from pools.catalog.schema import PoolRow
from router.inbound.bodies import RouteBody
from support.choosing import shipped

FILTERS = (*POOL_FILTERS, *PRICED_FILTERS)
EXPLAINED = [*map(type, FILTERS), objectives.listed, objectives.cheapest, objectives.fastest, objectives.balanced]


def snippets(text: str) -> Iterator[tuple[str, object]]:
    """(key, value) of every `key: value` in code spans of a docstring."""
    for span in re.findall(r"`([a-z_]+: [^`]+)`", " ".join(text.split())):
        yield from YAML(typ="safe").load(span).items()


def test_each_reason_has_one_filter() -> None:
    """All reasons but `class`, which is the ladder itself, are some filter's, and no two filters share one."""
    assert sorted([one.reason for one in FILTERS]) == sorted(set(Reason) - {Reason.CLASS})


@pytest.mark.parametrize("one", EXPLAINED, ids=lambda one: one.__name__)
def test_each_is_explained_by_an_example(one: type) -> None:
    """The docstring has an example, and what it quotes from files is right: keys, values and pools."""
    text = one.__doc__ or ""
    assert "Example: " in text
    for key, value in snippets(text):
        if key in PolicyFile.model_fields:
            PolicyFile.model_validate({"version": 1, key: value})
        elif key in ClassShape.model_fields:
            ClassShape.model_validate({"ladder": {}, key: value})
        elif key in set(Tier):
            assert set(value) <= set(shipped().pools)
        else:
            assert key in PoolRow.model_fields or key in RouteBody.__struct_fields__


def test_every_objective_has_a_score() -> None:
    """Lower is better: order, bill, seconds, or a mix of the last two."""
    limits = shipped().classes["chat"].limits
    scores = {one: objectives.score_of(one, limits)(3, 1_000, 2.0) for one in Objective}
    assert scores[Objective.LISTED] == 3
    assert scores[Objective.CHEAPEST] == 1_000
    assert scores[Objective.FASTEST] == 2.0
    assert scores[Objective.BALANCED] == pytest.approx(1_000 + 2 * 1e9 / 3_600)


def test_every_wish_of_the_fallback_table_is_somebodys() -> None:
    """No wish is left in the vocabulary that no failure class has."""
    assert {rule.next for rule in FALLBACK.values()} == set(Next)
