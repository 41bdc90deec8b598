"""What a client's `model` means."""

from __future__ import annotations

import pytest

from policies.choose.names import Resolved, names, resolve
from policies.errors import UnknownModel
from policies.requirements import Tier
from support.choosing import shipped
from support.values import replace


@pytest.mark.parametrize(
    ("model", "meaning"),
    [
        ("chat", Resolved("chat", None, None)),
        ("chat:premium", Resolved("chat", Tier.PREMIUM, None)),
        ("gpt-4o-mini", Resolved("chat", Tier.ECONOMY, None)),
        ("image", Resolved("flux-schnell", None, None)),
        ("qwen3-coder-30b-fp8-a100-40", Resolved("code", None, "qwen3-coder-30b-fp8-a100-40")),
        ("wan2.1:standard", Resolved("wan2.1", Tier.STANDARD, None)),
    ],
)
def test_a_name_is_a_class_a_tier_an_alias_or_a_pool(model: str, meaning: Resolved) -> None:
    """Each form resolves to a class, with a tier or a pinned pool where the name says so."""
    assert resolve(shipped(), model) == meaning


def test_an_alias_may_lead_to_an_alias() -> None:
    """Aliases are followed to the end."""
    policy = replace(shipped(), aliases={"a": "b", "b": "c", "c": "code:economy"})
    assert resolve(policy, "a") == Resolved("code", Tier.ECONOMY, None)


@pytest.mark.parametrize(
    ("model", "nearest"),
    [
        ("chatt", "chat"),
        ("GPT-4o-mini", "gpt-4o-mini"),
        ("chat:premum", "chat:premium"),
        ("vison:standard", "vision:standard"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(model: str, nearest: str) -> None:
    """A typing error gets the name that was meant."""
    with pytest.raises(UnknownModel) as raised:
        resolve(shipped(), model)
    assert raised.value.nearest[0] == nearest
    assert nearest in str(raised.value)


@pytest.mark.parametrize("model", ["", ":", "chat:", ":standard", "chat:standard:", "x" * 10_000])
def test_strange_names_are_unknown(model: str) -> None:
    """Nothing but a whole name resolves, and a long one is not repeated in full."""
    with pytest.raises(UnknownModel) as raised:
        resolve(shipped(), model)
    assert len(str(raised.value)) < 400


def test_every_name_that_is_listed_resolves() -> None:
    """What /v1/models shows can be asked for."""
    for name in names(shipped()):
        assert resolve(shipped(), name).request_class in shipped().classes
