"""Simulated pools that make pictures and clips, in the manner of vLLM-Omni 0.30: how fast, what is asked, what comes.

The batch engine of text runs them too: a denoising step is a token, the latent patches are the context that every step
reads, and one request runs at a time. So boots, bills, queues and faults are those of text, and a fault that strikes
after some tokens strikes after as many steps.

A request whose activations do not fit beside the weights gets CUDA's own error. What comes is small and follows from
the request alone: a PNG of the asked size in one colour, or bytes that begin as an MP4 does.
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pools.simulator import errors
from pools.simulator.engine import EngineSettings, Sequence
from pools.simulator.errors import EngineError
from pools.simulator.faults import Fault, FaultKind
from pools.simulator.request import read_body
from pools.simulator.roofline import CannotSimulate, Deviation, EngineProfile, boot_of
from pools.spec import MediaSize, ModelKind, PoolSpec
from pools.wire.multipart import BadForm, boundary_of, parts_of

MEDIA: Final = frozenset({ModelKind.IMAGE, ModelKind.VIDEO})
PATHS: Final = {
    ModelKind.IMAGE: frozenset({"/v1/images/generations", "/v1/images/edits"}),
    ModelKind.VIDEO: frozenset({"/v1/videos/sync"}),
}
FORMS: Final = frozenset({"/v1/images/edits", "/v1/videos/sync"})
ONE_AT_A_TIME: Final = EngineSettings(max_num_seqs=1, max_num_batched_tokens=2**40)
_NO_LIMIT: Final = 2**40
_CONTEXT_GIB: Final = 0.5  # of the CUDA context
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One valid request: `patches` of all items together, `steps` with those that stand for what is done once."""

    items: int
    size: MediaSize
    patches: int
    steps: int

    def sequence(self, fault: Fault | None) -> Sequence:
        """What the engine computes; a fault that strikes ends it after as many steps as the fault says."""
        steps = self.steps
        if fault is not None and fault.strikes:
            steps = max(1, min(steps, fault.after_tokens))
        stride = fault.factor if fault is not None and fault.kind is FaultKind.SLOW else 1
        return Sequence(self.patches, steps, stride, fault is not None and fault.kind is FaultKind.ENGINE_DEATH)


def makes_media(spec: PoolSpec) -> bool:
    return spec.model.kind in MEDIA


def media_profile(spec: PoolSpec, deviation: Deviation) -> EngineProfile:
    """The coefficients of one pool: the catalogue's seconds, as far off as the pool's compute is.

    Raises CannotSimulate for a GPU without such seconds.
    """
    seconds = spec.model.seconds_per_item or {}
    if spec.gpu.id not in seconds:
        raise CannotSimulate(f"pool '{spec.name}': '{spec.model.id}' has no seconds_per_item for {spec.gpu.id}")
    return EngineProfile(
        dense_s=0.0,
        experts_s=0.0,
        expert_untouched=0.0,
        kv_read_s=_patch_step_s(spec) / deviation.compute,
        compute_s=0.0,
        attention_s=0.0,
        overhead_s=0.0,
        kv_tokens=_NO_LIMIT,
        state_tokens=0,
        boot_s=boot_of(spec) * deviation.boot,
    )


def parse_media(spec: PoolSpec, path: str, content_type: str, raw: bytes) -> MediaRequest:
    """Raises EngineError, also where the GPU has not the memory."""
    fields = _form(content_type, raw) if path in FORMS else read_body(content_type, raw)
    if "prompt" not in fields:
        raise errors.missing("prompt", len(fields))
    model = fields.get("model")
    if model is not None and model != spec.served_model_name:
        raise errors.unknown_model(str(model), spec.served_model_name)
    items = _whole(fields, "n") or 1
    size = _size(spec.model.item, fields)
    count = items * _patches(size)
    weights_gib = spec.model.weights_gib[spec.quantization] - spec.weights_off_gpu_gib
    if weights_gib + _CONTEXT_GIB + _working_gib(spec, size, items) > spec.gpu.memory_gib:
        raise errors.cuda_out_of_memory()
    once = round(spec.model.seconds_once.get(spec.gpu.id, 0.0) / (count * _patch_step_s(spec)))
    return MediaRequest(items, size, count, size.steps + once)


def images_answer(request: MediaRequest, created: int, fault: Fault | None) -> dict[str, Any]:
    """The body of an answer with pictures; none of them where a fault says so."""
    one = base64.b64encode(png(request.size.width, request.size.height)).decode()
    items = 0 if fault is not None and fault.kind is FaultKind.EMPTY else request.items
    data = [{"b64_json": one, "url": None, "revised_prompt": None} for _ in range(items)]
    return {"created": created, "data": data, "output_format": "png", "size": _text(request.size)}


def png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: a real file, of a few hundred bytes."""
    rows = (b"\0" * (1 + (width + 7) // 8)) * height
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in chunks)


def mp4(request: MediaRequest) -> bytes:
    """Boxes as an MP4 begins with; a kilobyte that no player plays."""
    kind = b"isom\0\0\2\0isomiso2avc1mp41"
    content = f"{_text(request.size)} {request.size.frames} ".encode().ljust(1024, b"\0")
    return b"".join(
        struct.pack(">I", 8 + len(body)) + name + body for name, body in ((b"ftyp", kind), (b"mdat", content))
    )


def _patch_step_s(spec: PoolSpec) -> float:
    """Seconds of one step over one patch."""
    model = spec.model
    seconds = (model.seconds_per_item or {})[spec.gpu.id] - model.seconds_once.get(spec.gpu.id, 0.0)
    return seconds / (_patches(model.item) * model.item.steps)


def _working_gib(spec: PoolSpec, size: MediaSize, items: int) -> float:
    """What the decoder takes: frame by frame, and on diffusers picture by picture beside what is kept of each."""
    usual = spec.model.item
    frame = (size.width * size.height) / (usual.width * usual.height)
    length = max(size.frames, usual.frames) / usual.frames
    together = (4 + items) / 5 if spec.engine == "diffusers" else items
    return spec.activation_gib * frame * length * together


def _patches(size: MediaSize) -> int:
    """Latent patches of one item: 16 × 16 pixels each, in every frame."""
    return max(1, size.width * size.height * size.frames // 256)


def _text(size: MediaSize) -> str:
    return f"{size.width}x{size.height}"


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _form(content_type: str, raw: bytes) -> dict[str, Any]:
    try:
        parts = parts_of(raw, boundary_of(content_type))
    except BadForm as error:
        raise EngineError(400, f"1 validation error:\n  {error}", "Bad Request") from None
    return {part.name: raw[part.start : part.end].decode("utf-8", "replace") for part in parts if not part.is_file}


def _size(model: MediaSize, fields: Mapping[str, Any]) -> MediaSize:
    """What is asked for, and the model's own where nothing is. Raises EngineError."""
    found = _SIZE.fullmatch(str(fields.get("size", "")))
    width, height = (int(found[1]), int(found[2])) if found else (_whole(fields, "width"), _whole(fields, "height"))
    steps, frames, fps = (_whole(fields, name) for name in ("num_inference_steps", "num_frames", "fps"))
    seconds = _whole(fields, "seconds")
    if frames is None and seconds is not None:
        frames = round(seconds * (fps or model.fps))
    return MediaSize(
        width or model.width, height or model.height, steps or model.steps, frames or model.frames, fps or model.fps
    )


def _whole(fields: Mapping[str, Any], name: str) -> int | None:
    """A field that is a whole number, in a form as text. Raises EngineError."""
    value = fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not str(value).isdigit():
        raise errors.wrong_type(name, "int_type", "integer", value)
    return int(value)
