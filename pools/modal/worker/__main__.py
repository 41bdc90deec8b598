"""`python -m pools.modal.worker MODEL …`, as `pools.catalog.engine_args` writes it into a deployment."""

from __future__ import annotations

import argparse
import importlib
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import Any, Final

from pools.modal.worker import instantid, pictures, restore
from pools.modal.worker.faces import InsightFaces
from pools.modal.worker.probe import probe_by_opencv
from pools.modal.worker.server import Service, WorkerServer


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_args(arguments)
    service = SERVED[given.model](given)
    server = WorkerServer(service, given.port, given.max_num_queued_reqs)
    signal.signal(signal.SIGTERM, lambda *_: Thread(target=server.finish).start())
    server.serve_forever()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Serve one model that has no server of its own.")
    parser.add_argument("model", choices=sorted(SERVED))
    for name in ("--repo", "--weights", "--served-model-name", "--quantization"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-num-queued-reqs", type=int, required=True, help="here at once, the one that runs too")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lora")
    parser.add_argument("--offload-text-encoder", action="store_true")
    parser.add_argument("--base", help="SDXL under InstantID")
    parser.add_argument("--faces", help="the folder of InsightFace's weights")
    parser.add_argument("--program", type=Path, help="what restores a clip")
    parser.add_argument("--program-weights", type=Path, help="the folder of its weights")
    parser.add_argument("--size", help="of a clip whose request names none, as 1280x720")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--fps", type=float)
    parser.add_argument("--job-s", type=float, help="the longest that one clip may take")
    return parser


def _pictures(given: argparse.Namespace) -> Service:
    pipeline = pictures.load_pictures(
        given.repo, given.weights, given.quantization, given.lora, given.offload_text_encoder, given.device
    )
    steps = pictures.STEPS[given.model]
    return pictures.pictures_service(pipeline, given.served_model_name, steps, _seeded(given.device))


def _instantid(given: argparse.Namespace) -> Service:
    model = instantid.load_instantid(given.repo, given.base, given.device)
    finder = InsightFaces(given.faces)
    return instantid.instantid_service(model, finder, given.served_model_name, _seeded(given.device))


def _restore(given: argparse.Namespace) -> Service:
    weights = restore.WEIGHTS[given.quantization]
    restore.fetch_weights(given.weights, given.program_weights, weights)
    folder = Path(tempfile.gettempdir())
    restorer = restore.Restorer(given.program, given.program_weights, weights, folder, given.job_s)
    width, _, height = given.size.partition("x")
    usual = restore.Usual((int(width), int(height)), given.frames, given.fps)
    return restore.restore_service(restorer, probe_by_opencv, usual, given.served_model_name)


def _seeded(device: str) -> Callable[[int], Any]:
    torch: Any = importlib.import_module("torch")
    return lambda seed: torch.Generator(device).manual_seed(seed)


SERVED: Final[Mapping[str, Callable[[argparse.Namespace], Service]]] = {
    "flux-dev": _pictures,
    "flux-schnell": _pictures,
    "instantid": _instantid,
    "sdxl-lora": _pictures,
    "seedvr2-3b": _restore,
}

if __name__ == "__main__":
    main()
