"""Which phases of a container's life a provider bills. Busy time is what everybody bills."""

from __future__ import annotations

from typing import Final, NamedTuple


class Billed(NamedTuple):
    """Container time of a phase that is not billed is counted, and costs 0."""

    boot: bool = True
    idle: bool = True

    @property
    def free(self) -> tuple[str, ...]:
        """The phases that are not billed, by name."""
        return tuple(phase for phase, is_billed in zip(self._fields, self, strict=True) if not is_billed)


ALL_BILLED: Final = Billed()
