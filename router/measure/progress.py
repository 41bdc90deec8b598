"""A bar on the terminal while a measurement runs; nothing where standard error is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from router.measure.load import Sample
from router.measure.run import Watch


@contextmanager
def watching(screen: Console, requests: int) -> Iterator[Watch]:
    """Draw for as long as the block runs. The bar goes away with it: what stays is the result."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    failed = 0
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task("connecting", total=None)

        def phase(name: str) -> None:
            progress.reset(bar, description=name, total=requests if name == "load" else None)

        def ended(sample: Sample) -> None:
            nonlocal failed
            failed += sample.failure is not None
            text = f"load, {failed} failed" if failed else "load"
            progress.update(bar, advance=1, description=text)

        yield Watch(phase, ended)
