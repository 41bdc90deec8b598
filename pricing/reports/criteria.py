"""The success criteria of the GPU requirements document, judged by what the ledger says of each pool.

| criterion | of each pool | holds where |
|---|---|---|
| latency | median seconds of its answers, dispatch to end | at most 20% above the baseline's |
| success | answered ÷ tried, without those that clients, budgets or a stop of ours ended | above 95% |
| saving | what one answer cost against the baseline's | above 30%; asked of pools on cheaper GPUs |

The baseline of a model is its pools on the baseline GPU (the document's L40S): measured in the same window, or, where
none ran, what the catalogue expects of it, marked `modelled`. The document's fourth criterion, quality, is for people
to judge: nothing in a ledger says how a picture looks. Which GPUs are cheaper follows from what a second of answering
cost, so that a dearer one (an A100) is asked for latency and success only. Costs are busy seconds; boots and idle time
are compared by the report itself. Requests of different sizes are compared as they came: a pool that gets larger
pictures looks slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """Seconds and nano-dollars of one answer on the baseline GPU; `measured` False: as the catalogue expects.

    `mean_s` is the mean that belongs to `nusd`, which is one too; None where every answer takes `seconds`.
    """

    seconds: float
    nusd: float
    measured: bool
    mean_s: float | None = field(default=None, compare=False)

    @property
    def nusd_per_s(self) -> float:
        return self.nusd / (self.mean_s or self.seconds)


@dataclass(frozen=True, slots=True)
class Judged:
    """One pool. `seconds` and `nusd` are of one answer, None without any; `baseline` None where nothing is known.

    `mean_s` is as a baseline's.
    """

    model: str
    pool: str
    gpu: str
    tried: int
    answered: int
    seconds: float | None
    nusd: float | None
    baseline: Baseline | None
    mean_s: float | None = None

    @property
    def success(self) -> float | None:
        return self.answered / self.tried if self.tried else None

    @property
    def latency_ratio(self) -> float | None:
        return self.seconds / self.baseline.seconds if self.seconds is not None and self.baseline else None

    @property
    def saving(self) -> float | None:
        """Share of the baseline's cost that is saved; None on the baseline's own GPU, and on those that cost as much by
        the second or more: a cheaper GPU is asked for savings.
        """
        if self.nusd is None or self.baseline is None or self.gpu == BASELINE_GPU:
            return None
        seconds = self.mean_s or self.seconds
        if not seconds or self.nusd / seconds >= self.baseline.nusd_per_s:
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
    seconds, nusd, mean_s = _of_one(found)
    return None if not seconds or not nusd else Baseline(seconds, nusd, measured=True, mean_s=mean_s)


def _judged(model: str, pool: str, gpu: str, attempts: list[tuple[str, int, int]], baseline: Baseline) -> Judged:
    answered = sum(outcome == "answered" for outcome, _, _ in attempts)
    seconds, nusd, mean_s = _of_one(attempts)
    return Judged(model, pool, gpu, len(attempts), answered, seconds, nusd, baseline, mean_s)


def _of_one(attempts: Iterable[tuple[str, int, int]]) -> tuple[float | None, float | None, float | None]:
    """Median seconds, mean nano-dollars and mean seconds of the answers."""
    answers = [(duration_us, nusd) for outcome, duration_us, nusd in attempts if outcome == "answered"]
    if not answers:
        return None, None, None
    seconds, nusd = ([each[part] for each in answers] for part in (0, 1))
    return median(seconds) / 1e6, sum(nusd) / len(answers), sum(seconds) / len(answers) / 1e6


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
        _said("-" if one.saving is None else f"{100 * one.saving:.1f}%", verdicts["saving"]),
    ]


def _said(text: str, verdict: bool | None) -> str:
    return text if verdict is None else f"{text} {'yes' if verdict else 'NO'}"
