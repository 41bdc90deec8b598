"""The success criteria of the GPU requirements document, judged by what the ledger says of each pool.

| criterion | of each pool | holds where |
|---|---|---|
| latency | median seconds of its answers, dispatch to end | at most 20% above the baseline's |
| success | answered ÷ tried, without those that clients, budgets or a stop of ours ended | above 95% |
| saving | what one answer cost against the baseline's | above 30%; asked of pools on cheaper GPUs |

The baseline of a model is its pools on the baseline GPU (the document's L40S): measured in the same window, or, where
none ran, what the catalogue expects of it, marked `modelled`. The document's fourth criterion, quality, is for people
to judge: nothing in a ledger says how a picture looks. Costs are busy seconds; boots and idle time are compared by the
report itself. Requests of different sizes are compared as they came: a pool that gets larger pictures looks slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pricing.ledger.place import LedgerPlace
from pricing.ledger.read import reading
from pricing.ledger.rows import RowKind
from pricing.money import format_usd

BASELINE_GPU: Final = "L40S"
LATENCY_AT_MOST: Final = 1.2  # times the baseline's
SUCCESS_ABOVE: Final = 0.95
SAVING_ABOVE: Final = 0.30
_NOT_ITS_FAULT: Final = ("client_gone", "client_error", "cut", "store_down", "shutdown", "fault")
_ATTEMPTS: Final = f"""
SELECT model, pool, gpu, outcome, duration_us, metered_nusd FROM ledger_rows
WHERE kind = '{RowKind.ATTEMPT}' AND at_us >= :since AND at_us < :until"""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Seconds and nano-dollars of one answer on the baseline GPU; `measured` False: as the catalogue expects."""

    seconds: float
    nusd: float
    measured: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """One pool. `seconds` and `nusd` are of one answer, None without any; `baseline` None where nothing is known."""

    model: str
    pool: str
    gpu: str
    tried: int
    answered: int
    seconds: float | None
    nusd: float | None
    baseline: Baseline | None

    @property
    def success(self) -> float | None:
        return self.answered / self.tried if self.tried else None

    @property
    def latency_ratio(self) -> float | None:
        return self.seconds / self.baseline.seconds if self.seconds is not None and self.baseline else None

    @property
    def saving(self) -> float | None:
        """Share of the baseline's cost that is saved; None on the baseline's own GPU."""
        if self.nusd is None or self.baseline is None or self.gpu == BASELINE_GPU:
            return None
        return 1 - self.nusd / self.baseline.nusd

    @property
    def verdicts(self) -> dict[str, bool | None]:
        """By criterion; None where it cannot be, or is not, judged."""
        ratio, success, saving = self.latency_ratio, self.success, self.saving
        return {
            "latency": None if ratio is None else ratio <= LATENCY_AT_MOST,
            "success": None if success is None else success > SUCCESS_ABOVE,
            "saving": None if saving is None else saving > SAVING_ABOVE,
        }


def judge(place: LedgerPlace, since_us: int, until_us: int, expected: Mapping[str, Baseline]) -> list[Judged]:
    """Each pool that ran one of the models of `expected`, by model and pool. Raises StoreUnavailable."""
    pools: dict[tuple[str, str, str], list[tuple[str, int, int]]] = {}
    with reading(place) as ledger:
        for model, pool, gpu, outcome, duration_us, nusd in ledger.execute(
            _ATTEMPTS, {"since": since_us, "until": until_us}
        ):
            if model in expected and outcome not in _NOT_ITS_FAULT:
                pools.setdefault((model, pool, gpu), []).append((outcome, duration_us, nusd))
    measured = {model: _measured(model, pools) or expected[model] for model, _, _ in pools}
    return [_judged(*key, attempts, measured[key[0]]) for key, attempts in sorted(pools.items())]


def _measured(model: str, pools: Mapping[tuple[str, str, str], list[tuple[str, int, int]]]) -> Baseline | None:
    found = [one for (of, _, gpu), each in pools.items() if (of, gpu) == (model, BASELINE_GPU) for one in each]
    seconds, nusd = _of_one(found)
    return None if seconds is None or not nusd else Baseline(seconds, nusd, measured=True)


def _judged(model: str, pool: str, gpu: str, attempts: list[tuple[str, int, int]], baseline: Baseline) -> Judged:
    answered = sum(outcome == "answered" for outcome, _, _ in attempts)
    return Judged(model, pool, gpu, len(attempts), answered, *_of_one(attempts), baseline)


def _of_one(attempts: Iterable[tuple[str, int, int]]) -> tuple[float | None, float | None]:
    """Median seconds and mean nano-dollars of the answers."""
    answers = [(duration_us, nusd) for outcome, duration_us, nusd in attempts if outcome == "answered"]
    if not answers:
        return None, None
    return median(each[0] for each in answers) / 1e6, sum(each[1] for each in answers) / len(answers)


def criteria_json(found: Iterable[Judged]) -> list[dict[str, Any]]:
    """Every figure and verdict."""
    return [
        {
            "model": one.model,
            "pool": one.pool,
            "gpu": one.gpu,
            "tried": one.tried,
            "answered": one.answered,
            "success": one.success,
            "seconds": one.seconds,
            "usd": None if one.nusd is None else one.nusd / 1e9,
            "baseline": None
            if one.baseline is None
            else {
                "gpu": BASELINE_GPU,
                "seconds": one.baseline.seconds,
                "usd": one.baseline.nusd / 1e9,
                "from": "measured" if one.baseline.measured else "modelled",
            },
            "latency_ratio": one.latency_ratio,
            "saving": one.saving,
            "verdicts": one.verdicts,
        }
        for one in found
    ]


def criteria_table(found: list[Judged], window: str) -> RenderableType:
    """One line per pool, each figure with its verdict."""
    if not found:
        return Text(f"No pool made pictures or clips {window}, so there is nothing to judge.")
    table = Table(title=f"Success criteria {window}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("pool", "GPU", "answered"):
        table.add_column(name)
    for name in ("success > 95%", f"seconds ≤ 1.2 × {BASELINE_GPU}", "each", "saving > 30%"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(*_cells(one))
    baseline = f"{BASELINE_GPU} figures are measured, or (marked ~) what the catalogue expects. Quality is not judged."
    return Group(table, Text(baseline))


def _cells(one: Judged) -> list[str]:
    verdicts = one.verdicts
    seconds = "-"
    if one.seconds is not None:
        seconds = f"{one.seconds:.1f}"
        if one.baseline is not None:
            seconds += f" vs {'' if one.baseline.measured else '~'}{one.baseline.seconds:.1f}"
    return [
        one.pool,
        one.gpu,
        f"{one.answered} of {one.tried}",
        _said("-" if one.success is None else f"{100 * one.success:.1f}%", verdicts["success"]),
        _said(seconds, verdicts["latency"]),
        "-" if one.nusd is None else format_usd(round(one.nusd), 6),
        _said("-" if one.saving is None else f"{100 * one.saving:.0f}%", verdicts["saving"]),
    ]


def _said(text: str, verdict: bool | None) -> str:
    return text if verdict is None else f"{text} {'yes' if verdict else 'NO'}"
