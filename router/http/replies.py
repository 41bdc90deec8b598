"""What every route outside inference shares: JSON replies, and who is asking."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import Request, Response

from router.http.exchange import read_body
from router.inbound.callers import Caller, holder_of, identify, identify_viewer
from router.service.service import Service

SIGNED_IN: Final = "sluice.signed_in"
"""In the scope of what the dashboard asks for its viewer: the hash of the key that they signed in with. No client can
write it, since servers make scopes.
"""


def reply(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def body_of(service: Service, request: Request) -> bytes:
    """The whole body. Raises ApiError `request_too_large`."""
    return await read_body(request.scope, request.receive, service.settings.max_body_bytes)


def caller_of(service: Service, request: Request) -> Caller:
    """Who wants something run. Raises ApiError `invalid_api_key`."""
    return identify(service.policy, request.headers.raw, request.client.host if request.client else None)


def viewer_of(service: Service, request: Request) -> Caller:
    """Who wants to see something. Raises ApiError `invalid_api_key`."""
    key_hash = request.scope.get(SIGNED_IN)
    if key_hash is not None:
        return holder_of(service.policy, key_hash)
    return identify_viewer(service.policy, request.headers.raw, request.client.host if request.client else None)
