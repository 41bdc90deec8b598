"""A measurement on a terminal: what was measured, what it cost, and how far the catalogue is from it."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pools.spec import ModelKind
from pricing.clock import US_PER_S
from pricing.money import format_usd
from router.measure.claims import CLOSE, Calibration, Claim, calibration, claims
from router.measure.media import MADE
from router.measure.result import Measurement, Spread


def render(measured: Measurement) -> RenderableType:
    """Everything that the JSON document says, but for what was asked."""
    parts: list[RenderableType] = [Text(_head(measured)), Text()]
    if measured.interrupted:
        cut = f", {measured.load.cancelled} cut off" if measured.load.cancelled else ""
        parts += [Text(f"interrupted after {len(measured.load.samples)} of {measured.shape.requests}{cut}"), Text()]
    if measured.latency is not None:
        parts.append(_times(measured))
    parts += [Text(line) for line in _lines(measured)]
    found = claims(measured)
    if found:
        parts += [Text(), _claims(found)]
    row = calibration(measured)
    if row is not None:
        parts.append(Text(_advice(row, found)))
    return Group(*parts)


def _head(measured: Measurement) -> str:
    subject, shape = measured.subject, measured.shape
    name = subject.model if subject.pool is None else subject.pool.name
    engine = f" · engine {measured.engine_version}" if measured.engine_version else ""
    if engine and subject.pool is not None and subject.pool.engine_version != measured.engine_version:
        engine += f" (its row says {subject.pool.engine_version})"
    load = f"{shape.requests} requests, {min(shape.concurrency, shape.requests)} at a time"
    return f"{name} at {subject.shown_url} · {load}{engine} · {subject.machine}"


def _times(measured: Measurement) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("seconds")
    for name in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(name, justify="right")
    first = measured.first_token if measured.shape.media is None else None  # all of a picture is there at once
    for what, found in (("first token", first), ("whole answer", measured.latency)):
        if found is not None:
            table.add_row(what, *_seconds(found))
    return table


def _seconds(found: Spread) -> list[str]:
    times = (found.mean_us, found.p50_us, found.p90_us, found.p95_us, found.p99_us, found.max_us)
    return [f"{us / US_PER_S:.3f}" for us in times]


def _lines(measured: Measurement) -> list[str]:
    rate = measured.error_rate or 0.0
    errors = ", ".join(f"{count} {name}" for name, count in measured.errors.most_common())
    lines = [
        f"answers       {len(measured.answers)} of {len(measured.load.samples)}, errors {rate:.1%}"
        + (f" ({errors})" if errors else ""),
        _made(measured),
    ]
    if measured.cold is not None:
        cold = measured.cold
        lines.append(
            f"cold start    first token after {cold.first_token_s:.1f} s, answer after {cold.answer_s:.1f} s; "
            f"boot {cold.boot_s:.1f} s by {cold.boot_by}; asleep by {cold.asleep_by}"
        )
    return [*lines, *_money(measured)]


def _made(measured: Measurement) -> str:
    took_s, asked = measured.load.wall_us / US_PER_S, measured.shape.media
    if asked is None:
        return (
            f"tokens        {measured.tokens:,} in {took_s:.1f} s: {measured.tokens_per_s:.1f} a second, "
            f"{measured.tokens_mean or 0:.1f} an answer, prompts of {measured.prompt_tokens_mean or 0:.0f}"
        )
    frames = f", {asked.frames} frames" if asked.kind is ModelKind.VIDEO else ""
    return (
        f"{MADE[asked.kind] + 's':14}{len(measured.answers)} in {took_s:.1f} s: {3600 * measured.answers_per_s:.1f} "
        f"an hour, {asked.width}x{asked.height}, {asked.steps} steps{frames}"
    )


def _shares(measured: Measurement) -> str | None:
    """What one of each thing cost; None where nothing came."""
    asked, one, thousand = measured.shape.media, measured.request_nusd, measured.thousand_nusd
    if one is None or thousand is None:
        return None
    if asked is not None:
        film = measured.video_s_nusd
        a_second = "" if film is None else f", {format_usd(film, 6)} per second of video"
        what = MADE[asked.kind]
        return f"{format_usd(one, 6)} a {what}, {format_usd(thousand, 4)} per 1K {what}s{a_second}"
    million = measured.million_tokens_nusd
    a_million = "" if million is None else f", {format_usd(million, 4)} per million output tokens"
    return f"{format_usd(one, 6)} a request, {format_usd(thousand, 4)} per 1K requests{a_million}"


def _money(measured: Measurement) -> list[str]:
    subject = measured.subject
    if subject.rate_nusd_per_h is None or measured.cost_nusd is None:
        return ["cost          not known: give the price of an hour with --usd-per-hour"]
    book = "" if subject.rate is None else f" ({subject.rate.book})"
    serving = measured.serving
    lines = [
        f"cost          {format_usd(measured.cost_nusd, 6)}: {serving.container_us / US_PER_S:.1f} container-seconds "
        f"(by {serving.by}) at {format_usd(subject.rate_nusd_per_h, 4)} an hour{book}"
    ]
    shares = _shares(measured)
    if shares is not None:
        lines.append(f"              {shares}")
    more = [("boot", measured.boot_nusd), ("idle window", measured.idle_window_nusd)]
    apart = ", ".join(f"{name} {format_usd(nusd, 6)}" for name, nusd in more if nusd is not None)
    return [*lines, f"on top        {apart}"] if apart else lines


def _claims(found: list[Claim]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("beside the catalogue")
    for name in ("measured", "claimed", "ratio"):
        table.add_column(name, justify="right")
    for one in found:
        ratio = "–" if one.ratio is None else f"{one.ratio:.2f}"
        unit = " s" if one.unit == "s" else one.unit
        table.add_row(one.what, f"{one.measured:.3f}{unit}", f"{one.claimed:.3f}{unit}", ratio)
    return table


def _advice(row: Calibration, found: list[Claim]) -> str:
    keys = f"time_factor: {row.time_factor:g}" + ("" if row.boot_s is None else f", boot_s: {row.boot_s:g}")
    if row.seconds_per_item is not None:
        keys += f", or the model's row seconds_per_item: {row.seconds_per_item:g} for this GPU"
    off = [one.what for one in found if one.ratio is not None and abs(one.ratio - 1) > CLOSE]
    if not off:
        return f"the claims hold within {CLOSE:.0%}; the pool's row would say {keys}"
    return f"off by more than {CLOSE:.0%}: {'; '.join(off)}. The pool's row should say {keys}"
