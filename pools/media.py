"""How large a picture or clip is: what is asked for, and what a model's figures in the catalogue are about.

Diffusion works in latent patches: each step runs the whole model over all patches of all frames, and the decoder then
turns them into pixels. Time is therefore taken as proportional to pixels × steps × frames, working memory as
proportional to pixels, and to frames beyond the row's, both from the row's own figures at the size that the row names.

Limits: attention grows with the square of the patches, so that far above the row's size the true time is longer. By
FLOP (57 layers of width 3,072 over 512 text tokens and the patches) FLUX takes 2.2 times as long at twice the pixels of
1024 × 1024 and 5.6 times at four times; at half of them 0.51. Measured on an H200 (docs/media.md): 2.1 times at twice,
4.9 at four times, since larger products run faster. What does not grow at all (a text encoder on the CPU) is
`seconds_once` of the row.
"""

from __future__ import annotations

import msgspec

from pools.spec import MediaSize, ModelKind, PoolSpec

PATCH_PIXELS = 256
"""Pixels of one latent patch: 8 × 8 of the autoencoder, 2 × 2 of the transformer (FLUX, SDXL's blocks, Wan, SeedVR2).
A shape that ran out of memory is remembered by its patches, as a text is by its tokens."""

DECODED_ALONE_SHARE = 0.2
"""What a further picture of a request adds where pictures are decoded one by one, of what one takes. Measured with
InstantID on an H200: 0.05 in bfloat16, where the decoder takes the most, 0.18 in float16, where it works in tiles."""


class MediaAsked(msgspec.Struct, frozen=True):
    """What a request asks for: `items` pictures or clips. None where it leaves a figure to the model.

    `seconds` is a clip's length; with `frames`, which count first, both may be given.
    """

    kind: ModelKind
    items: int = 1
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    frames: int | None = None
    seconds: float | None = None
    fps: float | None = None

    def on(self, model: MediaSize) -> MediaSize:
        """The size that a model would make: its own wherever the request does not say."""
        fps = self.fps or model.fps
        frames = self.frames
        if frames is None:
            frames = model.frames if self.seconds is None or not fps else max(1, round(self.seconds * fps))
        return MediaSize(self.width or model.width, self.height or model.height, self.steps or model.steps, frames, fps)


def patches(asked: MediaAsked, model: MediaSize) -> int:
    """Latent patches of all items together."""
    return asked.items * max(1, _pixels(asked.on(model)) // PATCH_PIXELS)


def work(asked: MediaAsked, model: MediaSize) -> float:
    """How many times the work of one item at the model's own size: pixels × steps × frames × items."""
    size = asked.on(model)
    return asked.items * _pixels(size) * size.steps / (_pixels(model) * model.steps)


def activation_gib(pool: PoolSpec, asked: MediaAsked) -> float:
    """Peak working memory of a request."""
    return working_gib(pool, asked.on(pool.model.item), asked.items)


def working_gib(pool: PoolSpec, size: MediaSize, items: int) -> float:
    """Peak memory beside the weights while so many pictures or clips of a size are made.

    A decoder that goes through a clip frame by frame takes as much for a short one as for a long one. Engines batch
    items from end to end; the diffusers worker decodes one after another.
    """
    model = pool.model.item
    pixels = size.width * size.height / (model.width * model.height)
    further = DECODED_ALONE_SHARE if pool.engine == "diffusers" else 1.0
    return pool.activation_gib * pixels * max(1.0, size.frames / model.frames) * (1 + further * (items - 1))


def clip_us(size: MediaSize) -> int:
    """How long a clip plays, microseconds; 0 for a picture."""
    return round(size.frames / size.fps * 1_000_000) if size.fps else 0


def _pixels(size: MediaSize) -> int:
    """Of all frames."""
    return size.width * size.height * size.frames
