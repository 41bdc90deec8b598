"""Child processes of the demo: `sluice VERB`, started on a port of their own and stopped as an operator would."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from pricing.errors import SluiceError

READY_WITHIN_S: Final = 60.0  # real seconds; a first start compiles the packages' bytecode
STOPPED_WITHIN_S: Final = 45.0
LINES_SHOWN: Final = 12
_RUN: Final = "from router.cli.main import main; main()"
_URL: Final = re.compile(r"http://127\.0\.0\.1:\d+")


class DemoFailed(SluiceError):
    """The demo could not be played to its end; the message says what went wrong."""


class Child:
    """One `sluice VERB`. What it prints goes to a file; the first address in it says that it listens, and where."""

    def __init__(self, verb: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.verb = verb
        self.url = ""
        self._process = process
        self._log = log
        self._last: deque[str] = deque(maxlen=LINES_SHOWN)
        self._listens = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name=f"output of {verb}")

    @classmethod
    async def start(
        cls, verb: str, arguments: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None
    ) -> Self:
        """Start it, and return once it listens. `environ` is added to this process's, less what is Sluice's there.

        Raises DemoFailed.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _RUN,
            verb,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**_environ_of_others(), **(environ or {})},
            start_new_session=True,  # Ctrl-C is for the demo, which then stops its children in order
        )
        child = cls(verb, process, folder / f"{verb}.log")
        try:
            await asyncio.wait_for(child._listens.wait(), READY_WITHIN_S)
        except TimeoutError:
            await child.kill()
            raise child.failed(f"did not listen within {READY_WITHIN_S:.0f} s") from None
        except asyncio.CancelledError:
            await child.kill()
            raise
        if not child.url:
            raise child.failed("ended before it listened")
        return child

    async def _read(self) -> None:
        """Keep what it prints; at the end of its output nobody waits for an address any more."""
        assert self._process.stdout is not None
        with self._log.open("ab") as log:
            async for line in self._process.stdout:
                log.write(line)
                log.flush()
                text = line.decode(errors="replace").rstrip()
                self._last.append(text)
                found = _URL.search(text)
                if found and not self.url:
                    self.url = found.group()
                    self._listens.set()
        self._listens.set()

    async def stop(self) -> None:
        """Ask it to finish what runs and end. Raises DemoFailed when it does not, or ends with an error."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = await asyncio.wait_for(self._process.wait(), STOPPED_WITHIN_S)
        except TimeoutError:
            await self.kill()
            raise self.failed(f"did not stop within {STOPPED_WITHIN_S:.0f} s") from None
        await self._reader
        if status != 0:
            raise self.failed(f"ended with status {status}")

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    def failed(self, what: str) -> DemoFailed:
        said = "".join(f"\n  {line}" for line in self._last)
        return DemoFailed(f"`sluice {self.verb}` {what}" + (f"; the last it said:{said}" if said else ""))


def _environ_of_others() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
