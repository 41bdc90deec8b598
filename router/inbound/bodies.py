"""Bodies of the routes that are ours: read strictly, since a misspelt field would silently ask for something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Self

import msgspec

from policies.requirements import Tier
from pools.media import MediaAsked
from pools.spec import Feature, ModelKind
from router.errors import ApiError
from router.inbound.media import IMAGES_PATH, media_of, parse_images, parse_video
from router.inbound.request import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse

MediumOf = Callable[[str], ModelKind | None]
_MEDIA_FIELDS: Final = ("n", "size", "num_inference_steps", "num_frames", "seconds", "fps")


class _Strict(msgspec.Struct, forbid_unknown_fields=True):
    @classmethod
    def read(cls, body: bytes) -> Self:
        """Decode; an empty body is an empty object. Raises ApiError `invalid_json` or `invalid_value`."""
        try:
            return msgspec.json.decode(body or b"{}", type=cls)
        except msgspec.ValidationError as error:
            allowed = ", ".join(name for name in cls.__struct_fields__)
            raise ApiError("invalid_value", f"{error}; this route takes {allowed}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ApiError("invalid_json", f"the body is not valid JSON: {error}") from None


class WarmupBody(_Strict):
    """`model` wakes the pool that a request of that class and tier would get; `pool` wakes that one."""

    model: str | None = None
    pool: str | None = None


class RouteBody(_Strict):
    """A request described by its numbers: what `sluice explain` takes on its command line. Those after `stream` are of
    pictures and clips, named as in the bodies that ask for them.
    """

    model: str
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tier: Tier | None = None
    features: list[Feature] = []
    stream: bool = False
    n: int | None = None
    size: str | None = None
    num_inference_steps: int | None = None
    num_frames: int | None = None
    seconds: float | None = None
    fps: float | None = None

    def media(self, medium: ModelKind | None) -> MediaAsked | None:
        """What is asked for of a class that makes this. Raises ApiError `invalid_value`, also for a size of text."""
        fields = {name: value for name in _MEDIA_FIELDS if (value := getattr(self, name)) is not None}
        if medium is not None:
            return media_of(fields, medium)
        if fields:
            name = next(iter(fields))
            raise ApiError("invalid_value", f"'{self.model}' makes text, which has no '{name}'", param=name)
        return None


def route_request(body: bytes, medium_of: MediumOf) -> Parsed | RouteBody:
    """What `/v1/route` was sent: a body as it would be sent to run, or its numbers alone. `medium_of` says what a model
    name makes where that is no text.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise ApiError("invalid_value", f"{error}; send one JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}; send one JSON object") from None
    if "messages" in fields:
        return parse(CHAT_PATH, body)
    if "prompt" in fields:
        medium = medium_of(fields["model"]) if isinstance(fields.get("model"), str) else None
        if medium is ModelKind.IMAGE:
            return parse_images(IMAGES_PATH, "application/json", body)
        if medium is ModelKind.VIDEO:
            return parse_video("application/json", body)
        return parse(COMPLETIONS_PATH, body)
    return RouteBody.read(body)
