"""A small image server for models that have none: `POST /v1/images/generations` over a diffusers pipeline.

It runs in a container that has diffusers and torch, and imports nothing of ours. One picture is made at a time, as the
catalogue counts: the platform's `max_concurrency` of 1 keeps others away, and whoever comes all the same waits in line,
or is told 503 where the line is full. After SIGTERM what has begun is finished, and whoever waits is told 503.
The HTTP side is tested with a pipeline in its place; the pipelines themselves were never run here.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import io
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Condition, Thread
from typing import Any, Final

SIDE_AT_MOST: Final = 2048
PICTURES_AT_MOST: Final = 8
STEPS_AT_MOST: Final = 200
BODY_AT_MOST: Final = 1_000_000
READ_AT_MOST: Final = 256 * 1024 * 1024  # of a body that is refused: its sender hears why only once all of it is taken
CHUNK: Final = 64 * 1024
HERE_AT_MOST: Final = 8  # requests, the one that runs among them

Pipeline = Callable[..., Any]  # diffusers': keyword arguments in, `.images` out
GGUF_FILES: Final[Mapping[str, str]] = {
    "gguf-q2": "flux1-schnell-Q2_K.gguf",
    "gguf-q4": "flux1-schnell-Q4_K_S.gguf",
    "gguf-q8": "flux1-schnell-Q8_0.gguf",
}
STEPS: Final[Mapping[str, int]] = {"flux-schnell": 4, "flux-dev": 28, "sdxl-lora": 30}
"""Of a picture whose request names none, as the catalogue's seconds are about."""


class BadRequest(Exception):
    """What is wrong with a request, and with which of its fields."""

    def __init__(self, message: str, param: str) -> None:
        self.param = param
        super().__init__(message)


class Busy(Exception):
    """There is no place in the line, or the server ends."""


class Line:
    """Who is here, and whose turn it is. `most` requests may be here, one of them runs."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._here = 0
        self._running = False
        self._closed = False
        self._changed = Condition()

    @contextmanager
    def place(self) -> Iterator[None]:
        """From a request's body to the last byte of its answer. Raises Busy."""
        with self._changed:
            if self._closed or self._here >= self._most:
                raise Busy("the server ends" if self._closed else f"{self._here} requests are here already")
            self._here += 1
        try:
            yield
        finally:
            with self._changed:
                self._here -= 1
                self._changed.notify_all()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """While the GPU works. Raises Busy where the server ends before it came."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._running)
            if self._closed:
                raise Busy("the server ends")
            self._running = True
        try:
            yield
        finally:
            with self._changed:
                self._running = False
                self._changed.notify_all()

    def close(self) -> None:
        """Take nobody any more; return when all answers are written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._here == 0)


@dataclass(frozen=True)
class Picture:
    """What is asked for."""

    prompt: str
    count: int
    width: int
    height: int
    steps: int
    seed: int | None


def parse(body: bytes, steps: int) -> Picture:
    """A request's body. `steps` where it names none. Raises BadRequest."""
    try:
        fields = json.loads(body)
    except ValueError:
        raise BadRequest("the body is not JSON", "body") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str) or not fields["prompt"]:
        raise BadRequest("prompt must be text", "prompt")
    width, height = _size(fields.get("size") or "1024x1024")
    return Picture(
        prompt=fields["prompt"],
        count=_number(fields, "n", 1, PICTURES_AT_MOST),
        width=width,
        height=height,
        steps=_number(fields, "num_inference_steps", steps, STEPS_AT_MOST),
        seed=fields.get("seed") if isinstance(fields.get("seed"), int) else None,
    )


def _size(text: object) -> tuple[int, int]:
    """Both sides are multiples of 16, as the latents of these models need them."""
    sides = str(text).split("x")
    if len(sides) != 2 or not all(side.isdigit() and 0 < int(side) <= SIDE_AT_MOST for side in sides):
        raise BadRequest(f"size is like 1024x1024, with sides up to {SIDE_AT_MOST}", "size")
    width, height = (int(side) for side in sides)
    if width % 16 or height % 16:
        raise BadRequest("both sides of size must be multiples of 16", "size")
    return width, height


def _number(fields: Mapping[str, Any], name: str, default: int, most: int) -> int:
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadRequest(f"{name} is a whole number from 1 to {most}", name)
    return value


def draw(pipeline: Pipeline, asked: Picture, generator: Callable[[int], Any]) -> dict[str, Any]:
    """Make the pictures; the answer in OpenAI's shape."""
    options: dict[str, Any] = {} if asked.seed is None else {"generator": generator(asked.seed)}
    made = pipeline(
        prompt=asked.prompt,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.steps,
        num_images_per_prompt=asked.count,
        **options,
    )
    return {"created": int(time.time()), "data": [{"b64_json": _png(image)} for image in made.images]}


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class ImageServer(ThreadingHTTPServer):
    """Its `line` is closed before it is shut down."""

    line: Line

    def finish(self) -> None:
        """Let what runs end, then stop serving; from another thread than the one that serves."""
        self.line.close()
        self.shutdown()


def serve(pipeline: Pipeline, name: str, steps: int, port: int, generator: Callable[[int], Any]) -> ImageServer:
    """A server of this pipeline, listening; port 0 is any free one. The caller runs and closes it."""
    line = Line(HERE_AT_MOST)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/health":
                self.answer(200, {})
            elif self.path == "/v1/models":
                self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"}]})
            else:
                self.answer(404, _error(404, f"no {self.path} here"))

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit():
                self.close_connection = True  # nobody knows where the next request would begin
                self.answer(400, _error(400, "say how long the body is: Content-Length", "body"))
            elif int(length) > BODY_AT_MOST:
                self.skip(int(length))
                self.answer(
                    413, _error(413, f"the body has more than {BODY_AT_MOST} bytes; shorten the prompt", "body")
                )
            else:
                self.asked(self.rfile.read(int(length)))

        def asked(self, body: bytes) -> None:
            if self.path == "/v1/images/edits":
                self.answer(400, _error(400, f"{name} makes pictures of text alone, and no edits", "image"))
            elif self.path != "/v1/images/generations":
                self.answer(404, _error(404, f"no {self.path} here"))
            else:
                try:
                    with line.place():
                        self.make(body)
                except Busy as trouble:
                    self.answer(503, _error(503, str(trouble)))

        def make(self, body: bytes) -> None:
            try:
                asked = parse(body, steps)
                with line.turn():
                    made = draw(pipeline, asked, generator)
            except BadRequest as trouble:
                self.answer(400, _error(400, str(trouble), trouble.param))
            except RuntimeError as trouble:  # torch's own, out of memory among them: the router tells them by the text
                self.answer(500, _error(500, str(trouble)))
            else:
                self.answer(200, made)

        def skip(self, length: int) -> None:
            """Take a body that is refused, or as much of it as is bearable."""
            self.close_connection = length > READ_AT_MOST
            left = min(length, READ_AT_MOST)
            while left and (chunk := self.rfile.read(min(left, CHUNK))):
                left -= len(chunk)

        def answer(self, status: int, document: Mapping[str, Any]) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """No line a request: what is worth knowing is in the router's ledger."""

    server = ImageServer(("0.0.0.0", port), Handler)
    server.line = line
    return server


def _error(code: int, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": _KINDS[code], "param": param, "code": code}}


_KINDS: Final[Mapping[int, str]] = {
    400: "BadRequestError",
    404: "NotFoundError",
    413: "BadRequestError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


def load(repo: str, weights: str, quantization: str, lora: str | None, offload: bool) -> Pipeline:
    """The pipeline on the GPU, or, with `offload`, its parts there in turn."""
    torch: Any = importlib.import_module("torch")
    diffusers: Any = importlib.import_module("diffusers")
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    parts: dict[str, Any] = {}
    if quantization in GGUF_FILES:
        file = f"https://huggingface.co/{weights}/blob/main/{GGUF_FILES[quantization]}"
        how = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
        parts["transformer"] = diffusers.FluxTransformer2DModel.from_single_file(
            file, quantization_config=how, torch_dtype=dtype
        )
    pipeline = diffusers.AutoPipelineForText2Image.from_pretrained(repo, torch_dtype=dtype, **parts)
    if quantization == "fp8":
        pipeline.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    if lora is not None:
        pipeline.load_lora_weights(lora)
    if offload:
        pipeline.enable_model_cpu_offload()
    else:
        pipeline.to("cuda")
    made: Pipeline = pipeline
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Serve one diffusers pipeline.")
    parser.add_argument("model", choices=sorted(STEPS))
    for name in ("--repo", "--weights", "--served-model-name", "--quantization"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lora")
    parser.add_argument("--offload-text-encoder", action="store_true")
    given = parser.parse_args(arguments)
    pipeline = load(given.repo, given.weights, given.quantization, given.lora, given.offload_text_encoder)
    server = serve(pipeline, given.served_model_name, STEPS[given.model], given.port, _seeded)
    signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.finish).start())
    server.serve_forever()


def _seeded(seed: int) -> Any:
    torch: Any = importlib.import_module("torch")
    return torch.Generator("cuda").manual_seed(seed)


if __name__ == "__main__":
    main()
