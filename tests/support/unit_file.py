"""The systemd unit, read as far as tests need it."""

from __future__ import annotations

import re
import shlex

from support.repository import ROOT

UNIT = ROOT / "router" / "deploy" / "sluice.service"


class Unit:
    """Its keys; none of them goes over several lines."""

    def __init__(self) -> None:
        self.text = UNIT.read_text(encoding="utf-8")

    def all(self, key: str) -> list[str]:
        return re.findall(rf"^{key}=(.*)$", self.text, re.MULTILINE)

    def one(self, key: str) -> str:
        [value] = self.all(key)
        return value

    def command(self, **places: str) -> list[str]:
        """The words of ExecStart; `/etc` and so on are put elsewhere where that is told."""
        return [_moved(word, places) for word in shlex.split(self.one("ExecStart"))]

    def environment(self, state: str) -> dict[str, str]:
        """Environment, with systemd's state folder in place of `%S`."""
        return dict(line.replace("%S", state).split("=", 1) for line in self.all("Environment"))


def _moved(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = re.sub(rf"^/{name}(?=/)", place, word)
    return word
