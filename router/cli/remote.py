"""Asking a running endpoint from the command line."""

from __future__ import annotations

from typing import Any

import httpx

from policies.compile.endpoints import fits_header
from pricing.errors import SluiceError

TIMEOUT_S = 30.0


class EndpointTrouble(SluiceError):
    """The endpoint did not answer, or answered with an error. Never repeats the key."""


def get_json(url: str, path: str, key: str | None) -> Any:
    """GET a document. Raises EndpointTrouble."""
    return _ask("GET", url, path, key, None)


def post_json(url: str, path: str, key: str | None, body: dict[str, Any]) -> Any:
    """POST one and read the answer. Raises EndpointTrouble."""
    return _ask("POST", url, path, key, body)


def _ask(method: str, url: str, path: str, key: str | None, body: dict[str, Any] | None) -> Any:
    address = url.rstrip("/").removesuffix("/v1") + path
    if not fits_header(key or ""):
        raise EndpointTrouble("the API key has a letter that no header can carry, such as a line break; write it again")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.request(method, address, headers=headers, json=body, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EndpointTrouble(f"no answer from {address} ({error}); is the endpoint running there?") from None
    try:
        document = answer.json()
    except ValueError:
        raise EndpointTrouble(
            f"{address} answered {answer.status_code} without JSON; is it a Sluice endpoint?"
        ) from None
    if answer.is_error:
        raise EndpointTrouble(f"{address} answered {answer.status_code}: {_message(document)}")
    return document


def _message(document: Any) -> str:
    """The message of an OpenAI error object."""
    error = document.get("error") if isinstance(document, dict) else None
    return str(error.get("message")) if isinstance(error, dict) else "no message"
