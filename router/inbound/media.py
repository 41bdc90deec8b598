"""Requests for pictures and clips as they come in: JSON or forms, in OpenAI's shapes with the engines' own fields.

Only what routing needs is read (model, size, steps, number); everything else goes up byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from pools.media import MediaAsked
from pools.spec import Feature, ModelKind
from pools.wire.multipart import BadForm, Part, boundary_of, form_of, parts_of
from pools.wire.tokens import Prompt
from router.errors import ApiError
from router.inbound.request import Parsed

T = TypeVar("T", int, float)

IMAGES_PATH: Final = "/v1/images/generations"
EDITS_PATH: Final = "/v1/images/edits"
IMAGE_PATHS: Final = (IMAGES_PATH, EDITS_PATH)
VIDEOS_PATH: Final = "/v1/videos"
SYNC_PATH: Final = "/v1/videos/sync"  # where engines answer with the whole clip

ITEMS_AT_MOST: Final = 10  # OpenAI's bound of `n`
SIDE_AT_MOST: Final = 16_384  # pixels
STEPS_AT_MOST: Final = 1_000
SECONDS_AT_MOST: Final = 600.0  # of a clip
FRAMES_AT_MOST: Final = 20_000
FPS_AT_MOST: Final = 120.0
FIELD_BYTES: Final = 64 * 1024  # of a form's field that is no file: no more of it is read here
_SIZE: Final = re.compile(r"(\d{1,5})\s*[x×X*]\s*(\d{1,5})", re.ASCII)
_PICTURES: Final = frozenset({"image", "image[]", "url"})
"""Fields of an edit by which the picture comes where it is no file."""

_JSON: Final = "application/json"
_FORM: Final = "multipart/form-data"


def parse_images(path: str, content_type: str, body: bytes) -> Parsed:
    """Read a body for `/v1/images/…`. Raises ApiError `invalid_json` or `invalid_value`, naming the field."""
    form = content_type.partition(";")[0].strip().lower() == _FORM
    fields, brings_file = _form_fields(content_type, body) if form else (_json_fields(body), False)
    if path == EDITS_PATH and not form:
        raise ApiError("invalid_value", f"{path} takes a form with the image as a file (multipart/form-data)")
    if not _off(fields.get("stream")):
        raise ApiError("invalid_value", "pictures are not streamed; leave 'stream' out", param="stream")
    if fields.get("response_format") not in (None, "", "b64_json"):
        text = "pictures come as b64_json; this endpoint keeps no files that a URL could name"
        raise ApiError("invalid_value", text, param="response_format")
    if path == EDITS_PATH and not (brings_file or any(fields.get(name) for name in _PICTURES)):
        raise ApiError("invalid_value", "'image' is missing; send the picture to edit as a file", param="image")
    media = media_of(fields, ModelKind.IMAGE)
    return _parsed(path, content_type if form else _JSON, body, fields, media, brings_file)


def parse_video(content_type: str, body: bytes) -> Parsed:
    """Read a body for `/v1/videos`, a form or JSON; it goes up as a form, which is all that engines take.

    Raises ApiError `invalid_json` or `invalid_value`, naming the field.
    """
    if content_type.partition(";")[0].strip().lower() == _FORM:
        fields, brings_file = _form_fields(content_type, body)
    else:
        fields, brings_file = _json_fields(body), False
        flat = {name: value for name, value in fields.items() if value is not None}
        nested = next((name for name, value in flat.items() if isinstance(value, dict | list)), None)
        if nested is not None:
            text = f"'{nested}' is not a plain value; send files and lists as a form (multipart/form-data)"
            raise ApiError("invalid_value", text, param=nested)
        content_type, body = form_of({name: _text(value) for name, value in flat.items()})
        _parts(content_type, body)  # as many fields, with such names, as a form may have
    return _parsed(SYNC_PATH, content_type, body, fields, media_of(fields, ModelKind.VIDEO), brings_file)


def media_of(fields: Mapping[str, Any], kind: ModelKind) -> MediaAsked:
    """What is asked for. Raises ApiError `invalid_value`."""
    width, height = _size(fields)
    video = kind is ModelKind.VIDEO
    if video and fields.get("n") not in (None, "", 1, "1"):
        raise ApiError("invalid_value", "a job makes one clip; send as many jobs as you want clips", param="n")
    return MediaAsked(
        kind=kind,
        items=1 if video else _number(fields, "n", int, 1, ITEMS_AT_MOST) or 1,
        frames=_number(fields, "num_frames", int, 1, FRAMES_AT_MOST) if video else None,
        seconds=_number(fields, "seconds", float, 0.1, SECONDS_AT_MOST) if video else None,
        fps=_number(fields, "fps", float, 1.0, FPS_AT_MOST) if video else None,
        width=width,
        height=height,
        steps=_number(fields, "num_inference_steps", int, 1, STEPS_AT_MOST),
    )


def _parsed(
    path: str, content_type: str, body: bytes, fields: Mapping[str, Any], media: MediaAsked, brings_file: bool
) -> Parsed:
    model, prompt, user = fields.get("model"), fields.get("prompt"), fields.get("user")
    if not isinstance(model, str) or not model:
        raise ApiError("invalid_value", "'model' is missing; name a class, class:tier, pool or alias", param="model")
    if not isinstance(prompt, str) or not prompt:
        raise ApiError("invalid_value", "'prompt' is missing; say in words what to make", param="prompt")
    return Parsed(
        path=path,
        body=body,
        model=model,
        stream=False,
        wants_usage=False,
        wants_continuous_usage=False,
        max_tokens=None,
        choices=1,
        features=frozenset({Feature.EDITS}) if path == EDITS_PATH else frozenset(),
        json_schema=None,
        prompt=Prompt(0),
        prompts=1,
        longest_share=1.0,
        prompt_token_count=0,
        user=user if isinstance(user, str) else None,
        media=media,
        content_type=content_type,
        brings_file=brings_file,
    )


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError:
        raise ApiError("invalid_value", "the body must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}; send one JSON object") from None


def _form_fields(content_type: str, body: bytes) -> tuple[dict[str, Any], bool]:
    """The fields of a form that are no files, as text, and whether one is a file with something in it."""
    parts = _parts(content_type, body)
    fields = {
        part.name: body[part.start : min(part.end, part.start + FIELD_BYTES)].decode("utf-8", "replace")
        for part in parts
        if not part.is_file
    }
    return fields, any(part.is_file and part.end > part.start for part in parts)


def _parts(content_type: str, body: bytes) -> list[Part]:
    try:
        return parts_of(body, boundary_of(content_type))
    except BadForm as error:
        raise ApiError("invalid_value", f"the body is not a valid form: {error}") from None


def _size(fields: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """`size` as OpenAI has it (`1024x768`, `auto`), or the engines' `width` and `height`."""
    size = fields.get("size")
    sides = [_number(fields, name, int, 16, SIDE_AT_MOST) for name in ("width", "height")]
    if size in (None, "", "auto"):
        return sides[0], sides[1]
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    if found is None or not all(16 <= int(side) <= SIDE_AT_MOST for side in found.groups()):
        text = f"'size' is WIDTHxHEIGHT in pixels, each from 16 to {SIDE_AT_MOST}, or auto"
        raise ApiError("invalid_value", text, param="size")
    for name, side, text in zip(("width", "height"), sides, found.groups(), strict=True):
        if side not in (None, int(text)):
            raise ApiError("invalid_value", f"'size' and '{name}' say different things; send one of them", param=name)
    return int(found[1]), int(found[2])


def _number(fields: Mapping[str, Any], name: str, kind: Callable[[Any], T], least: T, most: T) -> T | None:
    """A number, in a form as its text. None where it is not given."""
    given = fields.get(name)
    if given is None or given == "":
        return None
    try:
        value = kind(given)
    except (TypeError, ValueError):
        value = None
    if value is None or isinstance(given, bool) or not least <= value <= most or value != float(given):
        raise ApiError("invalid_value", f"'{name}' must be a number from {least} to {most}", param=name)
    return value


def _off(value: object) -> bool:
    """What no engine takes for true."""
    return value is None or value is False or (isinstance(value, str) and value.lower() in ("", "false", "0"))


def _text(value: object) -> str:
    """A JSON value as a form's field."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
