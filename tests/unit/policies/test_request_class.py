"""What a class keeps of its ladder, so that no request works it out again."""

from __future__ import annotations

from dataclasses import replace

from pricing.clock import US_PER_S
from pricing.money import cost_nusd
from support.choosing import ladder, rung

T4, A10 = rung("qwen3-vl-8b-awq-t4"), rung("qwen3-4b-bf16-a10")


def test_what_is_kept_of_a_ladder_follows_the_ladder() -> None:
    """Names, models and the dearest boot are those of the pools on it, also once another ladder takes its place."""
    both = ladder(T4, A10)
    boots = [cost_nusd(one.rate.nusd_per_h, round(one.boot_s * US_PER_S)) for one in (T4, A10)]
    assert both.listed == {T4.pool.name, A10.pool.name}
    assert [model.id for model in both.models] == list(dict.fromkeys([T4.pool.model.id, A10.pool.model.id]))
    assert both.dearest_boot_nusd == max(boots)
    less = replace(both, ladder=(T4,))
    assert (less.listed, less.models, less.dearest_boot_nusd) == ({T4.pool.name}, (T4.pool.model,), boots[0])
