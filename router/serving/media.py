"""Pictures and clips on the same way as text: what they need of a pool, what goes up, what came down."""

from __future__ import annotations

from typing import Final

import msgspec

from policies.choose.names import Resolved
from policies.policy import RequestClass
from policies.requirements import Requirements
from pools.failures.classes import AttemptFailed, FailureClass
from pools.failures.classify import garbled
from pools.media import MediaAsked, clip_us
from pools.spec import MediaSize, ModelKind
from pools.wire.backend import Answer
from pools.wire.multipart import boundary_of, with_fields
from pools.wire.splice import replace_fields
from router.errors import ApiError
from router.inbound.request import Parsed

WORDS: Final = frozenset({ModelKind.TEXT, ModelKind.VISION})  # kinds of models that answer in text
_FILES: Final = {
    ModelKind.IMAGE: "a picture: send a form with the file 'image' to POST /v1/images/edits",
    ModelKind.VIDEO: "a clip: send a form with the file 'input_reference'",
}
_ROUTES: Final = {ModelKind.IMAGE: "POST /v1/images/generations", ModelKind.VIDEO: "POST /v1/videos"}


class _Image(msgspec.Struct):
    b64_json: str | None = None


class _Images(msgspec.Struct):
    data: list[_Image] = []


_IMAGES: Final = msgspec.json.Decoder(_Images)


def medium_of(request_class: RequestClass) -> ModelKind | None:
    """What a class makes where it makes no text."""
    kinds = {rung.pool.model.kind for rung in request_class.ladder}
    return min(kinds) if kinds and kinds.isdisjoint(WORDS) else None


def check_kind(request_class: RequestClass, parsed: Parsed) -> None:
    """A route makes one medium, and so does a class. Raises ApiError `feature_not_supported` where they differ."""
    kinds = {rung.pool.model.kind for rung in request_class.ladder}
    if parsed.media is None:
        if not kinds.isdisjoint(WORDS):
            return
        makes = " and ".join(sorted(kinds))
        routes = " or ".join(_ROUTES[kind] for kind in sorted(kinds))
        text = (
            f"'{parsed.model}' makes {makes}, not text: use {routes}, or name a class of language models "
            "(GET /v1/models lists all)"
        )
        raise ApiError("feature_not_supported", text, param="model")
    if parsed.media.kind not in kinds:
        other = "text: use POST /v1/chat/completions"
        if kinds.isdisjoint(WORDS):
            other = " and ".join(f"{kind}: use {_ROUTES[kind]}" for kind in sorted(kinds))
        raise ApiError("feature_not_supported", f"'{parsed.model}' makes {other}", param="model")
    _check_file(request_class, parsed, parsed.media.kind)


def _check_file(request_class: RequestClass, parsed: Parsed, kind: ModelKind) -> None:
    """Models that start from a picture or clip are not woken for a request without one. Raises ApiError."""
    if not parsed.brings_file and all(rung.pool.model.from_file for rung in request_class.ladder):
        text = f"'{parsed.model}' starts from {_FILES[kind]}"
        raise ApiError("feature_not_supported", text, param="image" if kind is ModelKind.IMAGE else "input_reference")


def media_requirements(
    request_class: RequestClass, resolved: Resolved, asked: MediaAsked, features: frozenset[str]
) -> Requirements:
    """What a request for pictures or clips needs: no tokens, but a size."""
    return Requirements(
        request_class=request_class.name,
        tier=resolved.tier or request_class.default_tier,
        prompt_tokens=0,
        output_bound=0,
        expected_output_tokens=0,
        deadline_s=request_class.limits.first_byte_deadline_s,
        features=features,
        prompt_exact=True,
        pinned_pool=resolved.pinned_pool,
        media_items=asked.items,
        media=asked,
        media_item=request_class.ladder[0].pool.model.item,
    )


def media_body(parsed: Parsed, served_model_name: str) -> bytes:
    """The body as it goes up: the pool's own name for its model, and pictures as base64."""
    if parsed.content_type.startswith("multipart/"):
        fields = {"model": served_model_name.encode()}
        if parsed.media is not None and parsed.media.kind is ModelKind.IMAGE:
            fields["response_format"] = b"b64_json"
        return with_fields(parsed.body, boundary_of(parsed.content_type), fields)
    named = {"model": msgspec.json.encode(served_model_name), "response_format": b'"b64_json"'}
    return replace_fields(parsed.body, named)


def check_media(asked: MediaAsked, answer: Answer) -> None:
    """Raises AttemptFailed where an answer has not what was asked for."""
    if asked.kind is ModelKind.IMAGE:
        _check_images(asked, answer)
    else:
        _check_clip(answer)


def _check_clip(answer: Answer) -> None:
    if not answer.content_type.startswith("video/"):
        raise garbled(f"answered a request for a clip with {answer.content_type}")
    if not answer.body:
        raise AttemptFailed(FailureClass.BAD_OUTPUT, "the clip is empty", status=answer.status)


def _check_images(asked: MediaAsked, answer: Answer) -> None:
    try:
        found = [image for image in _IMAGES.decode(answer.body).data if image.b64_json]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise garbled("sent an answer that cannot be read") from None
    if len(found) < asked.items:
        text = f"{len(found)} pictures came of {asked.items}"
        raise AttemptFailed(FailureClass.BAD_OUTPUT, text, status=answer.status)


def made(items: int, size: MediaSize) -> dict[str, int]:
    """What came, as the fields of a request's summary."""
    pixels = items * size.width * size.height * size.frames
    if size.fps:
        return {"clips": items, "video_us": items * clip_us(size), "media_pixels": pixels}
    return {"images": items, "media_pixels": pixels}
