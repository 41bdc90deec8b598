"""Recorded answers of a real vLLM, read from their files into status, headers and body.

Four notations occur: a request and its response under `###` titles; the raw bytes of a connection, chunk sizes of the
transfer encoding included or already taken out; a client's own note of status, headers and body; a body alone.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "data" / "vllm_responses"


@dataclass(frozen=True)
class Recording:
    """`status` 0: no answer came. `terminated` is False where a chunked body lacks its last chunk."""

    status: int
    headers: dict[str, str]
    body: bytes
    terminated: bool = True

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")


def names() -> list[str]:
    """Every recording as `v0.32.0/chat`."""
    return sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("v*/*.txt"))


def recording(name: str) -> Recording:
    data = (FOLDER / f"{name}.txt").read_bytes()
    if data.startswith(b"### REQUEST"):
        data = data[data.index(b"### RESPONSE") :].partition(b"\n")[2]
    if data.startswith(b"HTTP/1.1 "):
        return _http(data)
    if data.startswith(b"{"):
        return Recording(200, {}, data)
    status, headers, body = data.split(b"\n", 2)
    noted: dict[str, str] = ast.literal_eval(headers.decode())
    return Recording(int(status) if status.isdigit() else 0, noted, body.lstrip(b"\n"))


def _http(data: bytes) -> Recording:
    head, body = re.split(rb"\r?\n\r?\n", data, maxsplit=1)
    first, *lines = head.decode().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    terminated = True
    if headers.get("transfer-encoding") == "chunked" and headers.get("connection") == "close":
        body, terminated = _dechunked(body)
    return Recording(int(first.split()[1]), headers, body, terminated)


def _dechunked(body: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return b"".join(parts), True
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts), False
