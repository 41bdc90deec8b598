"""Names of GPUs."""

from __future__ import annotations

import pytest

from pricing.errors import UnknownGpu
from pricing.prices.gpus import ALIASES, GPU_IDS, canonical_gpu


@pytest.mark.parametrize(
    ("written", "meant"),
    [("A10G", "A10"), ("a10", "A10"), ("A100 80GB", "A100-80GB"), ("a100_40gb", "A100-40GB"), ("H100-SXM", "H100")],
)
def test_other_spellings_lead_to_the_canonical_id(written: str, meant: str) -> None:
    """Aliases, case, spaces and underscores all name the same GPU."""
    assert canonical_gpu(written) == meant


def test_every_id_and_alias_names_one_gpu() -> None:
    """An id leads to itself, an alias to its id, and no spelling leads to two GPUs."""
    assert {name: canonical_gpu(name) for name in GPU_IDS} == {name: name for name in GPU_IDS}
    assert {alias: canonical_gpu(alias) for gpu in GPU_IDS for alias in ALIASES[gpu]} == {
        alias: gpu for gpu in GPU_IDS for alias in ALIASES[gpu]
    }


def test_a100_without_its_size_is_refused() -> None:
    """Two products share the name A100, so the error asks which."""
    with pytest.raises(UnknownGpu, match="write A100-40GB or A100-80GB"):
        canonical_gpu("A100")


def test_a_misspelt_gpu_gets_the_nearest_name() -> None:
    """A wrong name comes with a suggestion, or with the known names when nothing is near."""
    with pytest.raises(UnknownGpu, match="did you mean 'L40S'"):
        canonical_gpu("L40X")
    with pytest.raises(UnknownGpu, match="known: T4, L4, A10"):
        canonical_gpu("quantum")
