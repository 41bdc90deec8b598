"""What a measurement leaves behind: the JSON document, and the row that calibrates the service-time model.

The document's first nine fields are those of the raw data in the document "Qwen3-4B vLLM Inference Service", with its
names, units and decimals; everything else is ours and lies under `sluice`. `timestamp` is UTC.

The row is a line of CSV in the columns of the published measurements that the model's constants were fitted to
(model, gpu, format, gpus, prompt_tokens, output_tokens, requests, ttft_ms, tpot_ms), followed by where it comes from.
`benchmarks/timing_model.py FILE` reads it.
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from pricing.clock import US_PER_S
from pricing.money import usd_number
from router.measure.claims import calibration, claims
from router.measure.result import Measurement, Spread
from router.measure.subject import CannotMeasure

DECIMALS: Final = 2  # of the document's milliseconds and tokens a second
COLUMNS: Final = (
    *("model", "gpu", "format", "gpus", "prompt_tokens", "output_tokens", "requests", "ttft_ms", "tpot_ms"),
    *("ttft_p95_ms", "e2e_p50_ms", "e2e_p99_ms", "answers", "errors", "boot_s", "time_factor"),
    *("pool", "engine", "engine_version", "machine", "date", "sluice"),
)


def document(measured: Measurement) -> dict[str, Any]:
    """The measurement as JSON. Numbers are None where nothing was measured, never 0."""
    latency, words = measured.latency, measured.shape.media is None
    return {
        "timestamp": _utc(measured).strftime("%Y-%m-%dT%H:%M:%S"),
        "total_requests": len(measured.load.samples),
        "successful_requests": len(measured.answers),
        "total_tokens": measured.tokens if words else None,
        "avg_tokens_per_request": _rounded(measured.tokens_mean) if words else None,
        "tps": _rounded(measured.tokens_per_s) if words else None,
        "avg_latency_ms": None if latency is None else _ms(latency.mean_us),
        "p50_latency_ms": None if latency is None else _ms(latency.p50_us),
        "p99_latency_ms": None if latency is None else _ms(latency.p99_us),
        "sluice": _ours(measured),
    }


def _ours(measured: Measurement) -> dict[str, Any]:
    subject, shape, load = measured.subject, measured.shape, measured.load
    pool, row = subject.pool, calibration(measured)
    return {
        "version": _version(),
        "engine_version": measured.engine_version,
        "machine": subject.machine,
        "url": subject.shown_url,
        "model": subject.model,
        "pool": None if pool is None else pool.name,
        "asked": msgspec.to_builtins(shape),
        "interrupted": measured.interrupted,
        "cancelled_requests": load.cancelled,
        "wall_s": load.wall_us / US_PER_S,
        "error_rate": measured.error_rate,
        "errors": dict(measured.errors),
        "latency_ms": _spread(measured.latency),
        "first_token_ms": _spread(measured.first_token) if shape.media is None else None,
        "token_ms": None if measured.token_us is None else _ms(measured.token_us),
        "prompt_tokens_mean": _rounded(measured.prompt_tokens_mean),
        "answers_per_s": measured.answers_per_s,
        "tokens_counted_by": "usage" if all(one.counted for one in measured.answers) else "frames",
        "in_flight_mean": _rounded(measured.in_flight_mean),
        "warm_up_ms": _ms(measured.warm.latency_us),
        "cold_start": None if measured.cold is None else asdict(measured.cold),
        "cost": _cost(measured),
        "claims": [
            {**asdict(one), "ratio": None if one.ratio is None else round(one.ratio, 3)} for one in claims(measured)
        ],
        "row": None if row is None else asdict(row),
    }


def _cost(measured: Measurement) -> dict[str, Any]:
    subject = measured.subject
    return {
        "price_book": None if subject.rate is None else subject.rate.book,
        "usd_per_hour": _usd(subject.rate_nusd_per_h),
        "container_s": measured.serving.container_us / US_PER_S,
        "container_s_by": measured.serving.by,
        "usd": _usd(measured.cost_nusd),
        "usd_per_request": _usd(measured.request_nusd),
        "usd_per_1k_requests": _usd(measured.thousand_nusd),
        "usd_per_million_tokens": _usd(measured.million_tokens_nusd),
        "usd_per_video_s": _usd(measured.video_s_nusd),
        "boot_usd": _usd(measured.boot_nusd),
        "idle_window_usd": _usd(measured.idle_window_nusd),
        "not_stated": [] if subject.rate is None else list(subject.rate.notes),
    }


def row(measured: Measurement) -> dict[str, str]:
    """The calibrating row, a text for each of `COLUMNS`. Raises CannotMeasure without a pool or an answer."""
    pool, found = measured.subject.pool, calibration(measured)
    latency, first = measured.latency, measured.first_token
    if pool is None or found is None or latency is None or first is None or measured.token_us is None:
        raise CannotMeasure("no row was written: it takes a pool, and answers that its model could give")
    prompt = measured.shape.prompt_tokens if measured.prompt_tokens_mean is None else measured.prompt_tokens_mean
    values: tuple[Any, ...] = (
        *(pool.model.id, pool.gpu.id, pool.quantization, pool.gpu_count),
        *(round(prompt), round(measured.tokens_mean or 0), measured.beside + 1),
        *(_ms(first.mean_us), _ms(measured.token_us), _ms(first.p95_us), _ms(latency.p50_us), _ms(latency.p99_us)),
        *(len(measured.answers), measured.errors.total()),
        *("" if found.boot_s is None else found.boot_s, found.time_factor),
        *(pool.name, pool.engine, measured.engine_version or "", measured.subject.machine),
        *(_utc(measured).date().isoformat(), _version()),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def check_rows(path: Path) -> None:
    """Raises CannotMeasure where a row could not be added to this file; called before anything is measured."""
    try:
        if not path.exists():
            if not path.parent.is_dir():
                raise CannotMeasure(f"{path}: there is no folder {path.parent}; make it first")
            return
        with path.open(encoding="utf-8", newline="") as lines:
            first = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError) as error:
        raise CannotMeasure(f"{path}: cannot be read: {error}; name another file with --row") from None
    if tuple(first) != COLUMNS:
        raise CannotMeasure(f"{path}:1: its columns are not those of measured rows; name another file with --row")


def add_row(path: Path, values: Mapping[str, str]) -> None:
    """Append a row, below a head in a new file. Raises CannotMeasure."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    try:
        if not path.exists() or not path.stat().st_size:
            writer.writeheader()
        writer.writerow(values)
        with path.open("a", encoding="utf-8", newline="") as lines:
            lines.write(text.getvalue())
    except OSError as error:
        raise CannotMeasure(f"{path}: {error.strerror}; name another file with --row") from None


def _spread(found: Spread | None) -> dict[str, float] | None:
    if found is None:
        return None
    return {name.replace("_us", ""): _ms(value) for name, value in asdict(found).items()}


def _ms(us: float) -> float:
    return round(us / 1000, DECIMALS)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DECIMALS)


def _usd(nusd: int | None) -> float | None:
    return None if nusd is None else usd_number(nusd)


def _utc(measured: Measurement) -> datetime:
    return datetime.fromtimestamp(measured.began_us / US_PER_S, UTC)


def _version() -> str:
    return importlib.metadata.version("sluice")
