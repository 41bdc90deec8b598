"""InstantID from released parts of diffusers: SDXL, a ControlNet, and an image adapter fed with a face.

Its paper (arXiv 2401.07519) has three parts. The adapter turns a face's embedding into sixteen tokens that the model
attends to beside the prompt: diffusers' own IP adapter, whose resampler is that of "Plus". The IdentityNet is a
ControlNet over a drawing of the face's five points; it attends to the face's tokens instead of the prompt's words,
which is put in by a hook here, since the pipeline hands it the prompt. Settings are those of its authors' example.
"""

from __future__ import annotations

import importlib
import io
import struct
from typing import Any, Final

from pools.modal.worker.asked import BadRequest, Body
from pools.modal.worker.faces import Face, FaceFinder, drawn, largest, placed
from pools.modal.worker.line import Gone
from pools.modal.worker.pictures import (
    EDITS,
    GENERATIONS,
    STEPS,
    Picture,
    Seeded,
    as_answer,
    decode_in_pieces,
    half_precision,
    picture_of,
)
from pools.modal.worker.server import Answer, Job, Service

ADAPTER: Final = "ip-adapter.bin"
IDENTITY_NET: Final = "ControlNetModel"
GUIDANCE: Final = 5.0
ADAPTER_SCALE: Final = 0.8
NET_SCALE: Final = 0.8
PHOTO_BYTES: Final = 20 * 1024 * 1024  # as the router takes at most
PHOTO_PIXELS: Final = 50_000_000
PHOTO_RATIO: Final = 16  # of long side to short: the face finder scales photos, and fails where one side comes to none
PHOTO_FORMATS: Final = ("JPEG", "PNG", "PPM", "WEBP")  # PIL reads dozens more, some by other programs


class FaceTokens:
    """What the IdentityNet attends to: a hook before its forward pass. `current` is of the request that runs."""

    current: Any = None

    def __call__(self, _net: Any, positional: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """As many times as pictures are made side by side; the halves with and without guidance stay in order."""
        times = named["encoder_hidden_states"].shape[0] // self.current.shape[0]
        return positional, {**named, "encoder_hidden_states": self.current.repeat_interleave(times, dim=0)}


class InstantId:
    """diffusers' pipeline with its hook."""

    def __init__(self, pipeline: Any, tokens: FaceTokens) -> None:
        self.pipeline = pipeline
        self._tokens = tokens

    def make(self, face: Face, photo: tuple[int, int], asked: Picture, seeded: Seeded, gone: Gone) -> Answer:
        """Pictures with the face, which stands where it stood on the photo of this size."""
        canvas = (asked.width, asked.height)
        faces = self._with_and_without(face)
        self._tokens.current = self._projected(faces)
        made = self.pipeline(
            image=drawn(placed(face.points, photo, canvas), canvas),
            ip_adapter_image_embeds=[faces],
            guidance_scale=GUIDANCE,
            controlnet_conditioning_scale=NET_SCALE,
            **asked.options(seeded, gone),
        )
        return as_answer(made.images)

    def _projected(self, faces: Any) -> Any:
        """The tokens of both, as the adapter makes them for the model itself."""
        torch: Any = importlib.import_module("torch")
        with torch.no_grad():
            return self.pipeline.unet.encoder_hid_proj([faces])[0].squeeze(1)

    def _with_and_without(self, face: Face) -> Any:
        """The two halves of guidance: nobody, and the face. Shape: halves, pictures, 1, length of an embedding."""
        torch: Any = importlib.import_module("torch")
        unet = self.pipeline.unet
        one = torch.tensor([[[list(face.embedding)]]], dtype=unet.dtype, device=unet.device)
        return torch.cat([torch.zeros_like(one), one])


def instantid_service(model: InstantId, find: FaceFinder, name: str, seeded: Seeded) -> Service:
    """Pictures of the largest face on a photo, in the words of the prompt."""

    def asked(body: Body) -> Job:
        picture = picture_of(body, STEPS["instantid"])
        photo = opened(body.file("image", "image[]"))
        return lambda gone: model.make(face_on(photo, find), photo.size, picture, seeded, gone)

    instead = {GENERATIONS: f"{name} needs a photo of a face: send it to {EDITS}, as a form with the file 'image'"}
    return Service(name, {EDITS: asked}, instead, PHOTO_BYTES)


def face_on(photo: Any, find: FaceFinder) -> Face:
    """Raises BadRequest where there is none."""
    face = largest(find(photo))
    if face is None:
        raise BadRequest("no face was found on the photo; send one that shows it from the front", "image")
    return face


def opened(data: bytes) -> Any:
    """A photo as PIL's image in RGB, the way up it is shown. Raises BadRequest."""
    image_module: Any = importlib.import_module("PIL.Image")
    operations: Any = importlib.import_module("PIL.ImageOps")
    try:
        photo = image_module.open(io.BytesIO(data), formats=PHOTO_FORMATS)
        if photo.width * photo.height > PHOTO_PIXELS:
            raise BadRequest(f"the photo has more than {PHOTO_PIXELS:,} pixels; send a smaller one", "image")
        if max(photo.size) > PHOTO_RATIO * min(photo.size):
            raise BadRequest(f"the photo is more than {PHOTO_RATIO} times as long as wide; cut it", "image")
        return operations.exif_transpose(photo).convert("RGB")
    except (OSError, SyntaxError, ValueError, struct.error, image_module.DecompressionBombError):
        raise BadRequest("the photo cannot be read; send a PNG, JPEG or WebP", "image") from None


def load_instantid(repo: str, base: str, device: str) -> InstantId:
    """The parts of `repo` over the SDXL of `base`."""
    diffusers: Any = importlib.import_module("diffusers")
    dtype = half_precision(device)
    net = diffusers.ControlNetModel.from_pretrained(repo, subfolder=IDENTITY_NET, dtype=dtype)
    pipeline = diffusers.StableDiffusionXLControlNetPipeline.from_pretrained(base, controlnet=net, dtype=dtype)
    pipeline.load_ip_adapter(repo, subfolder="", weight_name=ADAPTER, image_encoder_folder=None)
    pipeline.set_ip_adapter_scale(ADAPTER_SCALE)
    decode_in_pieces(pipeline)
    tokens = FaceTokens()
    net.register_forward_pre_hook(tokens, with_kwargs=True)
    return InstantId(pipeline.to(device), tokens)
