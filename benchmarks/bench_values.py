"""What typed values cost to make and to read, by kind: the choice between dataclass, msgspec and pydantic."""

from __future__ import annotations

import json
import statistics
import timeit
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from pydantic import BaseModel

from results import Result, number

REPEATS = 7


@dataclass(slots=True)
class SlottedDataclass:
    name: str
    amount_nusd: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class FrozenDataclass:
    name: str
    amount_nusd: int
    wait_s: float


class FrozenStruct(msgspec.Struct, frozen=True):
    name: str
    amount_nusd: int
    wait_s: float


class Model(BaseModel):
    name: str
    amount_nusd: int
    wait_s: float


class BodyModel(BaseModel):
    model: str
    messages: list[dict[str, str]]


class BodyStruct(msgspec.Struct):
    model: str
    messages: list[msgspec.Raw]


def body(size: int) -> bytes:
    text = ("lorem ipsum " * size)[: size - 80]
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": text}]}).encode()


def nanoseconds(action: Callable[[], object]) -> float:
    """Median time of one call, each of `REPEATS` samples lasting a tenth of a second or so."""
    timer = timeit.Timer(action)
    count, taken = timer.autorange()
    count = max(1, round(count * 0.1 / taken))
    return statistics.median(timer.repeat(REPEATS, count)) / count * 1e9


def main() -> None:
    small, large = body(1_000), body(60_000)
    decoder = msgspec.json.Decoder(BodyStruct)
    actions: dict[str, Callable[[], object]] = {
        "make a dataclass with slots": lambda: SlottedDataclass("t4", 5, 1.5),
        "make a frozen dataclass": lambda: FrozenDataclass("t4", 5, 1.5),
        "make a frozen msgspec struct": lambda: FrozenStruct("t4", 5, 1.5),
        "make a pydantic model": lambda: Model(name="t4", amount_nusd=5, wait_s=1.5),
        "read a 1 KB body, json": lambda: json.loads(small),
        "read a 1 KB body, pydantic": lambda: BodyModel.model_validate_json(small),
        "read a 1 KB body, msgspec, messages left raw": lambda: decoder.decode(small),
        "read a 60 KB body, json": lambda: json.loads(large),
        "read a 60 KB body, pydantic": lambda: BodyModel.model_validate_json(large),
        "read a 60 KB body, msgspec, messages left raw": lambda: decoder.decode(large),
    }
    rows = [(name, number(nanoseconds(action) / 1000)) for name, action in actions.items()]
    about = f"Median of {REPEATS} samples; the call of an empty lambda is included."
    print(Result("Values", about, ("what", "µs"), rows).as_json())


if __name__ == "__main__":
    main()
