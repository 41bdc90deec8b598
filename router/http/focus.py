"""`GET /v1/focus`: the ledger as a FOCUS dataset, for admins."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from typing import IO, Final

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from pricing.errors import FileProblem
from pricing.reports.focus import FocusAsked, write_focus
from pricing.reports.spans import parse_window
from router.errors import ApiError
from router.http.parameters import check_parameters
from router.http.replies import viewer_of
from router.inbound.callers import ADMIN
from router.service.service import Service
from router.views.priced import given, known_books

_PARAMETERS: Final = ("since", "until", "account", "billed_only")
_IN_MEMORY_BYTES: Final = 2**20  # more of an export goes through a temporary file
_CHUNK_BYTES: Final = 2**16


def add_focus_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/focus")
    async def focus(
        request: Request,
        since: str = "24h",
        until: str = "now",
        account: str | None = None,
        billed_only: bool = False,
    ) -> Response:
        viewer_of(service, request).require(ADMIN)
        check_parameters(request, _PARAMETERS)
        try:
            asked = FocusAsked(*parse_window(since, until, service.clock.wall_us()), account, billed_only)
            asked.hours()
        except ValueError as error:
            raise ApiError("invalid_value", str(error)) from None
        file = await asyncio.to_thread(_export, service, asked)
        return StreamingResponse(_chunks(file), media_type="text/csv; charset=utf-8; header=present")


def _export(service: Service, asked: FocusAsked) -> IO[str]:
    """The whole export, so that what is wrong with it is said before its first byte.

    Raises StoreUnavailable, and ApiError for price books that somebody has spoilt since the policy was loaded.
    """
    try:
        known = given(service.policy, known_books(service.settings.policy_paths))
    except FileProblem as error:
        text = f"a price book cannot be read: {error.problems[0]}; `sluice check` says what is wrong"
        raise ApiError("internal_error", text) from None
    file: IO[str] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed when it was sent
        _IN_MEMORY_BYTES, "w+", encoding="utf-8", newline=""
    )
    try:
        write_focus(service.settings.ledger, asked, known, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _chunks(file: IO[str]) -> Iterator[str]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
