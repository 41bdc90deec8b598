"""SeedVR2: a clip made sharper and larger, by the command-line program of numz/ComfyUI-SeedVR2_VideoUpscaler.

The image has that program at the commit that the row's `engine_version` stands for. It is run once a request, in a
folder that is removed afterwards: so it can be ended at any moment, and what it does to memory ends with it. It loads
the model each time, which the catalogue's `seconds_once` counts. Its colours are matched by `hsv`, since the code
behind its other ways comes from a project whose licence is non-commercial.
"""

from __future__ import annotations

import errno
import importlib
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pools.modal.worker.asked import SEED_AT_MOST, BadRequest, Body
from pools.modal.worker.line import Gone
from pools.modal.worker.probe import Clip, Probe
from pools.modal.worker.program import run_program
from pools.modal.worker.server import Answer, Job, JobFailed, Service

SYNC: Final = "/v1/videos/sync"
CLIP_BYTES: Final = 64 * 1024 * 1024
FRAMES_AT_MOST: Final = 2000
PIXELS_AT_MOST: Final = 500_000_000
"""Of all frames as they come: the program holds them in memory at 12 bytes a pixel, and a container has 32 GiB."""

WEIGHTS: Final[Mapping[str, str]] = {
    "fp16": "seedvr2_ema_3b_fp16.safetensors",
    "fp8": "seedvr2_ema_3b_fp8_e4m3fn.safetensors",
}
AUTOENCODER: Final = "ema_vae_fp16.safetensors"
BATCH_STEP: Final = 4  # frames side by side are one more than a multiple
MULTIPLE: Final = 2  # of both sides, as H.264 and MPEG-4 need them
SOUNDLESS_TYPE: Final = "video/mp4"


@dataclass(frozen=True)
class Usual:
    """What is made where a request does not say: the size that the catalogue's figures are about."""

    size: tuple[int, int]
    frames: int
    fps: float


@dataclass(frozen=True)
class Asked:
    """`frames` are the most that a clip may have."""

    clip: bytes
    suffix: str
    size: tuple[int, int]
    frames: int
    seed: int | None


@dataclass(frozen=True)
class Restorer:
    """The program with its weights. Clips lie in `folder` while they are worked on; `within_s` bounds one run."""

    program: Path
    weights: Path
    model: str
    folder: Path
    within_s: float

    def make(self, asked: Asked, probe: Probe, gone: Gone) -> Answer:
        """Raises BadRequest, JobFailed and ClientLeft. Nothing of the clip is left on the disk."""
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix="sluice-clip-") as name:
                folder = Path(name)
                given, made = folder / f"given{asked.suffix}", folder / "made.mp4"
                given.write_bytes(asked.clip)
                frames = _checked(probe(given), asked)
                run_program(self._command(asked, frames, given, made), folder, self.within_s, gone)
                return Answer(SOUNDLESS_TYPE, _whole(made))
        except OSError as trouble:
            if trouble.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise JobFailed("the disk of this container is full", 507) from None

    def _command(self, asked: Asked, frames: int, given: Path, made: Path) -> tuple[str, ...]:
        batch = -(-(frames - 1) // BATCH_STEP) * BATCH_STEP + 1
        seed = () if asked.seed is None else ("--seed", str(asked.seed))
        return (
            sys.executable, str(self.program), str(given),
            "--output", str(made), "--output_format", "mp4",
            "--model_dir", str(self.weights), "--dit_model", self.model,
            "--resolution", str(min(asked.size)), "--max_resolution", str(max(asked.size)),
            "--batch_size", str(batch), "--load_cap", str(frames),
            "--vae_encode_tiled", "--vae_decode_tiled",
            "--color_correction", "hsv",
            *seed,
        )  # fmt: skip


def restore_service(restorer: Restorer, probe: Probe, usual: Usual, name: str) -> Service:
    """Clips in, clips out."""

    def asked(body: Body) -> Job:
        wanted = asked_of(body, usual)
        return lambda gone: restorer.make(wanted, probe, gone)

    return Service(name, {SYNC: asked}, body_at_most=CLIP_BYTES)


def asked_of(body: Body, usual: Usual) -> Asked:
    """What a form asks for. Raises BadRequest."""
    clip = body.file("input_reference", "video")
    frames = body.number("num_frames", FRAMES_AT_MOST)
    seconds = body.seconds("seconds")
    if frames is None and seconds is not None:
        frames = max(1, round(min(seconds * (body.seconds("fps") or usual.fps), FRAMES_AT_MOST)))
    return Asked(
        clip=clip,
        suffix=_suffix(clip),
        size=body.size(usual.size, MULTIPLE),
        frames=min(frames or usual.frames, FRAMES_AT_MOST),
        seed=body.number("seed", SEED_AT_MOST, least=0),
    )


def fetch_weights(repo: str, folder: Path, model: str) -> None:
    """From a repository into the Volume, before the first request instead of during it; what is there is left alone."""
    for file in (model, AUTOENCODER):
        if not (folder / file).is_file():
            hub: Any = importlib.import_module("huggingface_hub")
            hub.hf_hub_download(repo, file, local_dir=str(folder))


def _checked(clip: Clip | None, asked: Asked) -> int:
    """Its frames. The price and the time that were expected are of as many as were asked for, so that more are refused.

    Raises BadRequest.
    """
    if clip is None:
        raise BadRequest("the clip cannot be read; send an MP4, MKV, WebM or AVI", "input_reference")
    if clip.frames > asked.frames:
        says = f"say num_frames={clip.frames}" if clip.frames <= FRAMES_AT_MOST else f"cut it to {FRAMES_AT_MOST}"
        raise BadRequest(f"the clip has {clip.frames} frames, and {asked.frames} were asked for; {says}", "num_frames")
    if clip.frames * clip.width * clip.height > PIXELS_AT_MOST:
        text = (
            f"{clip.frames} frames of {clip.width}x{clip.height} are more than {PIXELS_AT_MOST:,} pixels; cut the clip"
        )
        raise BadRequest(text, "input_reference")
    return clip.frames


def _suffix(clip: bytes) -> str:
    """By what the file begins with, since the program goes by names. Raises BadRequest."""
    if clip.startswith(b"\0\0") and clip[4:8] == b"ftyp":  # a box is no text, which a reader of playlists might take
        return ".mp4"
    if clip.startswith(b"\x1a\x45\xdf\xa3"):
        return ".mkv"
    if clip.startswith(b"RIFF") and clip[8:12] == b"AVI ":
        return ".avi"
    raise BadRequest("the file is no clip; send an MP4, MKV, WebM or AVI", "input_reference")


def _whole(made: Path) -> bytes:
    """Raises JobFailed where the program said that all went well and made nothing."""
    data = made.read_bytes() if made.is_file() else b""
    if not data:
        raise JobFailed("the program ended without a clip")
    return data
