"""`sluice train`: a model of output tokens from the ledger, tested on later traffic before it is written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich import box
from rich.table import Table

from policies.policy import Limits
from policies.predict.model_file import ModelFile, write_model
from pricing.clock import US_PER_S, SystemClock
from pricing.errors import SluiceError
from pricing.ledger.answers import newest_answers
from router.cli.options import DEFAULT_LEDGER, LedgerOption, wide_console

app = typer.Typer(add_completion=False, rich_markup_mode=None)

NEWEST_AT_MOST: Final = 200_000  # answers; training on so many takes about ten seconds


class CannotWrite(SluiceError):
    """The model's file cannot be written."""


@app.command()
def train(
    write: Annotated[Path, typer.Option(help="The model's file; the policy names it under predict:.")] = Path(
        "output-tokens.json"
    ),
    ledger: LedgerOption = DEFAULT_LEDGER,
    trace: Annotated[
        Path | None, typer.Option(help="A CSV file instead of the ledger: t_s,who,prompt_tokens,output_tokens.")
    ] = None,
    newest: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Answers to learn from, the newest ones.")
    ] = NEWEST_AT_MOST,
    output_bound: Annotated[
        int,
        typer.Option(
            min=1,
            max=10_000_000,
            help="Tokens of an answer without max_tokens, as the policy's output_bound_default.",
        ),
    ] = Limits().output_bound_default,
    token_ms: Annotated[
        float, typer.Option(min=0, max=60_000, help="Milliseconds a token, to compare money in holds.")
    ] = 20.0,
    usd_per_hour: Annotated[
        float, typer.Option(min=0, max=100_000, help="Price of an answer's share, for the same.")
    ] = 2.0,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of scikit-learn.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the test, write nothing.")] = False,
) -> None:
    """Train a model of output tokens, test it on later answers, and write it where it beats history.

    Exit status 1 when it does not: nothing is written then.
    """
    # Loads scikit-learn, which takes longer than everything else that a mistyped option would wait for.
    from router.learning.examples import sample_of
    from router.learning.judge import Service
    from router.learning.trace import read_trace
    from router.learning.train import BETTER_BY
    from router.learning.train import train as train_model

    if not dry_run and (write.is_dir() or not write.absolute().parent.is_dir()):
        raise CannotWrite(f"{write} is a folder, or in one that is not there; name another file with --write")
    service = Service(token_s=token_ms / 1000, usd_per_hour=usd_per_hour)
    if trace is None:
        samples = [sample_of(answer) for answer in newest_answers(ledger, newest)]
    else:
        samples = read_trace(trace, service)
    trained = train_model(samples, SystemClock().wall_us(), output_bound, service, seed)
    show(trained.file)
    if trained.not_beaten is not None:
        text = f"not written: the model is not {BETTER_BY:.0%} better than '{trained.not_beaten}', which needs no file"
        typer.echo(f"{text}; keep output_tokens: history")
        raise typer.Exit(1)
    if dry_run:
        return
    try:
        write_model(write, trained.file)
    except OSError as error:
        raise CannotWrite(f"{write}: {error.strerror}; name another file with --write") from error
    typer.echo(f"wrote {write}, version {trained.file.version}")


def show(model: ModelFile) -> None:
    """The test as tables."""
    since, until = (datetime.fromtimestamp(us / US_PER_S, UTC) for us in (model.from_us, model.until_us))
    typer.echo(
        f"trained on {model.trained:,} answers from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC, "
        f"tested on the {model.tested:,} after them; classes: {', '.join(model.classes)}"
    )
    wide_console().print(_table_of(model))


def _table_of(model: ModelFile) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("expected from")
    for name in ("pinball p50", "answers ≤ p50", "pinball p90", "answers ≤ p90", "USD in holds", "extensions"):
        table.add_column(name, justify="right")
    for row in model.held:
        scores = [score for score in model.judged if score.predictor == row.predictor]
        cells = [cell for score in scores for cell in (f"{score.pinball:.2f}", f"{score.share:.1%}")]
        table.add_row(row.predictor, *cells, f"{row.mean_usd:.5f}", f"{row.extensions:,}")
    return table
