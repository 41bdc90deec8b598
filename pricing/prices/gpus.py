"""The names of GPUs: one canonical id each, the other spellings that people and providers use, and nothing else.

What a GPU can do stands in the catalogue, what it costs in the price books; both call `canonical_gpu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pricing.errors import UnknownGpu
from pricing.nearest import nearest

ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "T4": ("Tesla-T4",),
        "L4": (),
        "A10": ("A10G", "A10-24GB", "A10G-24GB"),
        "L40S": ("L40S-48GB",),
        "A100-40GB": ("A100-40", "A100-SXM4-40GB", "A100-PCIe-40GB"),
        "A100-80GB": ("A100-80", "A100-SXM4-80GB", "A100-PCIe-80GB"),
        "RTX-PRO-6000": ("RTX-PRO-6000-Blackwell",),
        "H100": ("H100-80GB", "H100-SXM", "H100-SXM5", "H100-SXM5-80GB"),
        "H200": ("H200-141GB", "H200-SXM"),
        "B200": (),
        "B300": (),
        "A4000": ("RTX-A4000",),
        "A5000": ("RTX-A5000",),
        "A6000": ("RTX-A6000",),
        "RTX-3090": ("3090",),
        "RTX-4090": ("4090",),
    }
)
"""Canonical id -> other spellings. Case does not matter, and a space or underscore reads as a hyphen."""

GPU_IDS: Final = tuple(ALIASES)

# One name, two products with two prices: a file has to say which.
_AMBIGUOUS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"A100": ("A100-40GB", "A100-80GB")})


def _key(name: str) -> str:
    return "-".join(name.replace("_", " ").replace("-", " ").upper().split())


_CANONICAL: Final = {_key(name): gpu for gpu, others in ALIASES.items() for name in (gpu, *others)}


def canonical_gpu(name: str) -> str:
    """The canonical id of a GPU: `a10g` is `A10`, `A100 80GB` is `A100-80GB`.

    Raises UnknownGpu, with the nearest name, for one that is not known and for `A100` without its size.
    """
    key = _key(name)
    if key in _CANONICAL:
        return _CANONICAL[key]
    if key in _AMBIGUOUS:
        raise UnknownGpu(f"'{name}' comes in sizes that cost differently; write {' or '.join(_AMBIGUOUS[key])}")
    hint = nearest(key, _CANONICAL) or f"; known: {', '.join(GPU_IDS)}"
    raise UnknownGpu(f"'{name}' is not a known GPU{hint}")
