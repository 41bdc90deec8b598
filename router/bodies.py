"""Bodies of the routes that are ours: read strictly, since a misspelt field would silently ask for something else."""

from __future__ import annotations

from typing import Annotated, Any, Self

import msgspec

from policies.requirements import Tier
from pools.spec import Feature
from router.errors import ApiError
from router.inbound import CHAT_PATH, COMPLETIONS_PATH, Parsed, parse


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
    """A request described by its numbers: what `sluice explain` takes on its command line."""

    model: str
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    tier: Tier | None = None
    features: list[Feature] = []
    stream: bool = False


def route_request(body: bytes) -> Parsed | RouteBody:
    """What `/v1/route` was sent: a chat or completion body as it would be sent to run, or its numbers alone."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise ApiError("invalid_value", f"{error}; send one JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("invalid_json", f"the body is not valid JSON: {error}; send one JSON object") from None
    if "messages" in fields:
        return parse(CHAT_PATH, body)
    if "prompt" in fields:
        return parse(COMPLETIONS_PATH, body)
    return RouteBody.read(body)
