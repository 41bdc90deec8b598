"""A container's rate from GPU, CPU and memory."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.errors import UnknownPrice
from pricing.prices.billed import ALL_BILLED, Billed
from pricing.prices.book import shipped_books
from pricing.prices.rates import billed_phases, container_rate, not_applied, not_billed, plain_container_rate

MODAL = shipped_books()["modal-2026-10"]
REGIONS = [None, *MODAL.region_thousandths]


def test_the_parts_add_up_by_hand() -> None:
    """A10 with 4 cores and 32 GiB: 1.10 + 4 × 0.0473 + 32 × 0.008 = 1.5452 dollars an hour."""
    rate = container_rate(MODAL, "A10G", 1, 4, 32)
    assert (rate.gpu_nusd_per_h, rate.cpu_nusd_per_h, rate.memory_nusd_per_h) == (
        1_100_000_000,
        189_200_000,
        256_000_000,
    )
    assert rate.nusd_per_h == 1_545_200_000
    assert (rate.book, rate.notes) == ("modal-2026-10", ())


def test_cpu_and_memory_add_the_stated_share_to_each_gpu() -> None:
    """4 cores and 32 GiB are 56% on an L4, 23% on an L40S, 18% on an A100-80GB and 11% on an H100."""
    shares = {}
    for gpu in ("L4", "L40S", "A100-80GB", "H100"):
        rate = container_rate(MODAL, gpu, 1, 4, 32)
        shares[gpu] = round(100 * (rate.nusd_per_h / rate.gpu_nusd_per_h - 1))
    assert shares == {"L4": 56, "L40S": 23, "A100-80GB": 18, "H100": 11}


def test_a_pinned_region_multiplies_everything_and_nonpreemptible_only_cpu_and_memory() -> None:
    """`us` is 1.5 times, `us-west` 1.75 times all; nonpreemptible triples CPU and memory and leaves the GPU."""
    plain, broad, narrow = (container_rate(MODAL, "H100", 2, 8, 64, region) for region in (None, "us", "us-west"))
    assert 2 * broad.nusd_per_h == 3 * plain.nusd_per_h
    assert 4 * narrow.nusd_per_h == 7 * plain.nusd_per_h
    fixed = container_rate(MODAL, "H100", 2, 8, 64, nonpreemptible=True)
    assert fixed.gpu_nusd_per_h == plain.gpu_nusd_per_h
    assert fixed.cpu_nusd_per_h == 3 * plain.cpu_nusd_per_h
    assert fixed.memory_nusd_per_h == 3 * plain.memory_nusd_per_h


def test_what_a_book_does_not_state_is_counted_zero_and_said_so() -> None:
    """A document's book prices the GPU only, and the rate carries a note for CPU and one for memory."""
    rate = container_rate(shipped_books()["doc-qwen3-4b"], "A10", 1, 4, 32)
    assert rate.nusd_per_h == rate.gpu_nusd_per_h == 400_000_000
    assert [note.partition(" does not state ")[2] for note in rate.notes] == [
        "what CPU costs: counted 0",
        "what memory costs: counted 0",
        "whether pulling images is billed: counted as billed",
        "whether model init is billed: counted as billed",
    ]
    assert rate.billed == ALL_BILLED


def test_included_resources_cost_nothing_more_and_need_no_note() -> None:
    """RunPod's GPU price includes CPU and memory."""
    rate = container_rate(shipped_books()["runpod-flex"], "L4", 1, 16, 64)
    assert rate.nusd_per_h == 684_000_000
    assert not [note for note in rate.notes if "counted 0" in note]


@pytest.mark.parametrize(
    ("pull", "init", "boot"),
    [
        (True, True, True),
        (False, True, True),  # as where pulls are free: nobody sees when they end
        (True, False, True),
        (False, False, False),
        (None, None, True),
        (None, False, True),
        (False, None, True),
    ],
)
@pytest.mark.parametrize("idle", [True, False, None])
def test_what_a_book_does_not_state_is_billed(
    pull: bool | None, init: bool | None, boot: bool, idle: bool | None
) -> None:
    """A boot is free where neither part of it is billed, idle time where the book says so."""
    book = replace(MODAL, bills_image_pull=pull, bills_model_init=init, bills_idle_tail=idle)
    rate = container_rate(book, "T4", 1, 0, 0)
    assert rate.billed == billed_phases(book) == Billed(boot=boot, idle=idle is not False)
    assert len([note for note in rate.notes if "counted as billed" in note]) == [pull, init, idle].count(None)
    assert rate.not_billed == not_billed(book)
    assert [text.split()[4] for text in rate.not_billed] == list(rate.billed.free)
    said = ["pulling images"] * (pull is False and boot) + ["model init"] * (init is False and boot)
    assert [text.split(" that ")[1].split(" is ")[0] for text in rate.not_applied] == said


def test_free_phases_cost_nothing_at_a_container_s_rate() -> None:
    """An hour each of boot, service and idling, with and without a price for the first and the last."""
    hour_us = 3_600_000_000
    rate = container_rate(MODAL, "T4", 1, 0, 0)
    for billed, hours in ((ALL_BILLED, 3), (Billed(boot=False), 2), (Billed(idle=False), 2), (Billed(False, False), 1)):
        one = replace(rate, billed=billed)
        assert one.cost_nusd(boot_us=hour_us, busy_us=hour_us, idle_us=hour_us) == hours * rate.nusd_per_h
        assert one.boot_nusd_per_h == rate.nusd_per_h * billed.boot


@pytest.mark.parametrize(
    ("step", "idle", "rounded_us"), [("0.5", True, 300_000), ("60", None, 27_800_000), ("0", True, 0), ("60", False, 0)]
)
def test_billed_time_is_rounded_up_to_the_book_s_step(step: str, idle: bool | None, rounded_us: int) -> None:
    """Of 2 s of boot and 30.2 s ready. Not where idle time is free: nobody sees each stretch that is billed."""
    book = replace(MODAL, min_increment_s=Decimal(step), bills_idle_tail=idle)
    rate = container_rate(book, "T4", 1, 0, 0)
    assert rate.rounding_us(2_000_000, 30_200_000) == rounded_us
    assert rate.rounding_us(0, 0) == 0
    free_boot = replace(book, bills_image_pull=False, bills_model_init=False)
    assert container_rate(free_boot, "T4", 1, 0, 0).rounding_us(1, 60_000_000) == 0
    said = "which is shown and not applied" in " ".join(rate.not_applied)
    assert said is (step != "0" and idle is False)


def test_what_meters_do_not_follow_is_said() -> None:
    """Half of a boot that is free, and steps of billed time beside free idle time; modal's has none of it."""
    other = replace(MODAL, id="other", bills_image_pull=False, bills_idle_tail=False, min_increment_s=Decimal("0.5"))
    expected = ("pulling images is not billed", "billed time is rounded up to 0.5 s")
    assert not_applied(other) == tuple(
        f"book 'other' says that {each}, which is shown and not applied" for each in expected
    )
    assert container_rate(other, "T4", 1, 0, 0).not_applied == not_applied(other)
    assert not_applied(MODAL) == not_applied(replace(other, gpus={})) == ()
    tokens = replace(other, bills_model_init=False, gpus={})
    assert not_billed(MODAL) == not_billed(tokens) == ()


def test_an_unknown_region_lists_the_known_ones() -> None:
    """A region that the book lacks is an error with the nearest, all known ones and the file to edit."""
    with pytest.raises(
        UnknownPrice, match=r"region 'us-wst'; did you mean 'us-west'\?; it lists: us, eu, .*modal-2026"
    ):
        container_rate(MODAL, "T4", 1, 0, 0, "us-wst")
    with pytest.raises(UnknownPrice, match="it lists: none"):
        container_rate(shipped_books()["doc-qwen3-4b"], "T4", 1, 0, 0, "us")


def test_a_multiplier_that_is_not_stated_is_an_error() -> None:
    """No book's silence on nonpreemptible containers is read as a factor of one."""
    with pytest.raises(UnknownPrice, match="states no nonpreemptible_multiplier"):
        container_rate(shipped_books()["runpod-flex"], "L4", 1, 0, 0, nonpreemptible=True)


def test_a_container_without_a_gpu_costs_its_cores_and_memory() -> None:
    """Two cores and 4 GiB at Modal's list, half as dear again in the US, and nothing for a GPU."""
    rate = plain_container_rate(MODAL, 2, 4)
    assert (rate.nusd_per_h, rate.gpu_nusd_per_h) == (2 * 47_300_000 + 4 * 8_000_000, 0)
    assert plain_container_rate(MODAL, 2, 4, "us").nusd_per_h == rate.nusd_per_h * 3 // 2
    with pytest.raises(ValueError, match="no container"):
        plain_container_rate(MODAL, -1, 4)


@pytest.mark.parametrize(("count", "cores", "memory"), [(0, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_a_container_that_cannot_be_has_no_rate(count: int, cores: float, memory: float) -> None:
    """Less than one GPU and negative amounts are refused."""
    with pytest.raises(ValueError, match="no container"):
        container_rate(MODAL, "T4", count, cores, memory)


@given(
    gpu=st.sampled_from(sorted(MODAL.gpus)),
    count=st.integers(1, 16),
    cores=st.decimals(0, 64, places=3),
    memory=st.decimals(0, 2048, places=3),
    region=st.sampled_from(REGIONS),
)
def test_a_rate_is_its_formula_within_half_a_nano_dollar_a_part(
    gpu: str, count: int, cores: object, memory: object, region: str | None
) -> None:
    """For any container the parts sum to the rate, and each is the exact product rounded once."""
    rate = container_rate(MODAL, gpu, count, float(str(cores)), float(str(memory)), region)
    assert rate.nusd_per_h == rate.gpu_nusd_per_h + rate.cpu_nusd_per_h + rate.memory_nusd_per_h
    factor = Fraction(MODAL.region_multiplier_thousandths(region), 1000)
    exact = {
        rate.gpu_nusd_per_h: MODAL.gpus[gpu].nusd_per_h * count * factor,
        rate.cpu_nusd_per_h: MODAL.cpu.nusd_per_h * Fraction(str(cores)) * factor,
        rate.memory_nusd_per_h: MODAL.memory.nusd_per_h * Fraction(str(memory)) * factor,
    }
    assert all(abs(rounded - product) <= Fraction(1, 2) for rounded, product in exact.items())
