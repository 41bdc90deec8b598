"""How the worker asks diffusers to spare a card's memory. What that comes to was measured on a GPU (docs/media.md)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pools.modal.worker.pictures import load_pictures


class Pipeline:
    """Notes what is asked of it and of its decoder, in order."""

    def __init__(self, said: list[tuple[Any, ...]], precision: str) -> None:
        self.said = said
        self.text_encoder_2 = "T5"
        self.transformer = "FLUX"
        self.vae = self
        self.dtype = precision

    def __getattr__(self, name: str) -> Any:
        return lambda *given: self.said.append((name, *given))


def loaded(
    monkeypatch: pytest.MonkeyPatch, precision: str, offload: bool, weights: str = "bf16"
) -> list[tuple[Any, ...]]:
    """What was asked while FLUX was loaded over stand-ins for diffusers and torch."""
    said: list[tuple[Any, ...]] = []

    def stream(part: str, **how: Any) -> None:
        said.append(("stream", part, how["onload_device"], how["offload_device"], how["offload_type"]))

    def cast(part: str, storage: str, compute: Any, skip_modules_pattern: tuple[str, ...]) -> None:
        said.append(("cast", part, storage))

    stand_ins: dict[str, Any] = {name: ModuleType(name) for name in ("torch", "diffusers", "diffusers.hooks")}
    stand_ins["torch"].device = str
    stand_ins["torch"].float32 = None
    stand_ins["torch"].float8_e4m3fn = "float8"
    stand_ins["diffusers"].AutoPipelineForText2Image = type(
        "Auto", (), {"from_pretrained": staticmethod(lambda repo, **parts: Pipeline(said, precision))}
    )
    stand_ins["diffusers.hooks"].apply_group_offloading = stream
    stand_ins["diffusers.hooks"].apply_layerwise_casting = cast
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    load_pictures("flux", "flux", weights, None, offload, "cpu")
    return said


def test_a_large_text_encoder_stays_in_the_host_s_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights pass through the device before the rest moves there for good."""
    said = loaded(monkeypatch, "torch.bfloat16", offload=True)
    assert said[-2:] == [("stream", "T5", "cpu", "cpu", "leaf_level"), ("to", "cpu")]
    assert not any(what == "stream" for what, *_ in loaded(monkeypatch, "torch.bfloat16", offload=False))


def test_fp8_is_how_the_transformer_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else: text encoders and decoder keep 16 bits."""
    casts = [what for what in loaded(monkeypatch, "torch.bfloat16", offload=True, weights="fp8") if what[0] == "cast"]
    assert casts == [("cast", "FLUX", "float8")]


def test_pictures_are_decoded_one_by_one_and_in_float16_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without bfloat16 is one without the memory to decode a whole picture in 32 bits."""
    assert [what for what, *_ in loaded(monkeypatch, "torch.bfloat16", offload=False)] == ["enable_slicing", "to"]
    asked = [what for what, *_ in loaded(monkeypatch, "torch.float16", offload=False)]
    assert asked == ["enable_slicing", "enable_tiling", "to"]
