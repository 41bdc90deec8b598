"""The HTTP side of the worker: one request runs at a time, errors are OpenAI's, and a stop lets what runs end.

The platform's `max_concurrency` keeps others away; whoever comes all the same waits in line, or is told 503 where the
line is full. After SIGTERM what has begun is finished, and whoever waits is told 503. A client that leaves ends what
was made for it.
"""

from __future__ import annotations

import json
import logging
import re
import select
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pools.modal.worker.asked import BadRequest, Body, read_body
from pools.modal.worker.line import Busy, ClientLeft, Gone, Line
from pools.modal.worker.trouble import logged, told

LOGGER: Final = logging.getLogger("sluice.worker")

TEXT_BYTES: Final = 1_000_000
READ_AT_MOST: Final = 256 * 1024 * 1024  # of a body that is refused: its sender hears why only once all of it is taken
CHUNK: Final = 64 * 1024
SILENT_AT_MOST_S: Final = 60  # a client that neither sends nor takes a byte
_LENGTH: Final = re.compile(r"[0-9]{1,15}")


class JobFailed(Exception):
    """What was asked for could not be made; `status` is the answer's."""

    def __init__(self, message: str, status: int = 500) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class Answer:
    """What a job has made."""

    content_type: str
    body: bytes


Job = Callable[[Gone], Answer]
"""Runs in its turn. Raises BadRequest, JobFailed, ClientLeft, and whatever else a model may raise."""


@dataclass(frozen=True)
class Service:
    """What is served under which name: `routes` turn a body into a job or raise BadRequest, `instead` are routes that
    this model has not, with what to do.
    """

    name: str
    routes: Mapping[str, Callable[[Body], Job]]
    instead: Mapping[str, str] = field(default_factory=dict)
    body_at_most: int = TEXT_BYTES


def json_answer(document: Mapping[str, Any]) -> Answer:
    return Answer("application/json", json.dumps(document).encode())


class WorkerServer(ThreadingHTTPServer):
    """Listens as soon as it is made; the caller runs and closes it. `here_at_most` requests may be here at once."""

    request_queue_size = 128  # connections that the system keeps until they are taken

    def __init__(self, service: Service, port: int, here_at_most: int) -> None:
        self.service = service
        self.line = Line(here_at_most)
        super().__init__(("0.0.0.0", port), _Handler)

    def finish(self) -> None:
        """Let what runs end, then stop serving; from another thread than the one that serves."""
        self.line.close()
        self.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENT_AT_MOST_S
    server: WorkerServer
    unread = 0  # bytes of the request's body

    def do_GET(self) -> None:
        if self.path == "/health":
            self.answer(200, {})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": self.server.service.name, "object": "model"}]})
        else:
            self.refuse(404, f"no {self.path} here")

    def do_POST(self) -> None:
        length, service = self.length(), self.server.service
        if length is None:
            self.close_connection = True  # nobody knows where the next request would begin
            self.refuse(400, "say how long the body is: Content-Length", "body")
            return
        self.unread = length
        if self.path in service.instead:
            self.refuse(400, service.instead[self.path], "image")
        elif self.path not in service.routes:
            self.refuse(404, f"no {self.path} here")
        elif self.unread > service.body_at_most:
            self.refuse(413, f"the body has more than {service.body_at_most} bytes; send less", "body")
        else:
            self.asked(service.routes[self.path])

    def length(self) -> int | None:
        """Of the body; None where the request leaves it open, or says it in two ways (RFC 9112, 6.3)."""
        said = self.headers.get_all("Content-Length", [])
        if len(said) != 1 or "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(said[0]):
            return None
        return int(said[0])

    def asked(self, route: Callable[[Body], Job]) -> None:
        try:
            with self.server.line.place():
                self.make(route)
        except Busy as trouble:
            self.refuse(503, str(trouble))

    def make(self, route: Callable[[Body], Job]) -> None:
        """Whatever comes of it is answered while the request has its place: a server that ends waits for that."""
        try:
            job = route(read_body(self.headers.get("Content-Type", ""), self.taken()))
            with self.server.line.turn(self.gone):
                made = job(self.gone)
        except Busy as trouble:
            self.refuse(503, str(trouble))
        except BadRequest as trouble:
            self.refuse(400, str(trouble), trouble.param)
        except JobFailed as trouble:
            self.refuse(trouble.status, str(trouble))
        except ClientLeft:
            self.close_connection = True
        except Exception as trouble:  # noqa: BLE001 # models raise what they like, and nobody else answers the client
            LOGGER.error("a request failed: %s", logged(trouble))
            self.refuse(500, told(trouble))
        else:
            self.send(200, made)

    def taken(self) -> bytes:
        """The whole body. Raises ClientLeft where its sender goes or falls silent before its end."""
        length, self.unread = self.unread, 0
        try:
            data = self.rfile.read(length)
        except (ConnectionError, TimeoutError):
            raise ClientLeft from None
        if len(data) < length:
            raise ClientLeft
        return data

    def gone(self) -> bool:
        """Whether the client has closed its side: the router does so when nobody wants the answer any more."""
        waiting = select.poll()  # unlike `select`, it takes descriptors from 1024 up
        waiting.register(self.connection, select.POLLIN)
        if not waiting.poll(0):
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def refuse(self, status: int, message: str, param: str | None = None) -> None:
        error = {"message": message, "type": _KINDS[status], "param": param, "code": status}
        self.answer(status, {"error": error})

    def answer(self, status: int, document: Mapping[str, Any]) -> None:
        self.send(status, json_answer(document))

    def send(self, status: int, answer: Answer) -> None:
        """The answer, once what is left of the body is taken."""
        try:
            self.skip()
            self.send_response(status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
        except ConnectionError:
            self.close_connection = True

    def skip(self) -> None:
        """Take a body that is refused, or as much of it as is bearable."""
        left, self.unread = min(self.unread, READ_AT_MOST), max(0, self.unread - READ_AT_MOST)
        while left and (chunk := self.rfile.read(min(left, CHUNK))):
            left -= len(chunk)
        if left or self.unread:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """No line a request: what is worth knowing is in the router's ledger."""


_KINDS: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    404: "NotFoundError",
    413: "BadRequestError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "InternalServerError",
    507: "InternalServerError",
}
