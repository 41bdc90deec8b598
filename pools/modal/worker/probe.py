"""What a clip's container says of it, read by OpenCV in a process of its own.

Who sends a clip writes what a demuxer reads: one that makes it crash or read for ever ends that process, and not the
worker. As a program, `python -m pools.modal.worker.probe FILE` prints what it has found.
"""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pools.modal.worker.server import JobFailed

PROBE_S: Final = 20.0
"""Reading a container's head takes milliseconds, starting Python with OpenCV up to seconds on a busy machine."""


@dataclass(frozen=True)
class Clip:
    """What is known of a clip before it is restored."""

    frames: int
    width: int
    height: int


Probe = Callable[[Path], Clip | None]
"""What a file holds, None where it is no clip."""


def probe_by_opencv(path: Path, within_s: float = PROBE_S) -> Clip | None:
    """None also for a file that crashes the reader or holds it for `within_s`. Raises JobFailed where the reader cannot
    be started.
    """
    command = (sys.executable, "-m", __name__, str(path))
    quiet = subprocess.DEVNULL  # what a demuxer complains of is out of the clip
    try:
        done = subprocess.run(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode < 0:  # by a signal
        return None
    if done.returncode > 0:
        raise JobFailed("clips cannot be looked at here: try `python -c 'import cv2'` in this container")
    frames, width, height = json.loads(done.stdout.splitlines()[-1])
    return Clip(frames, width, height) if min(frames, width, height) > 0 else None


def main() -> None:
    """Ends with status 1 where there is no OpenCV; what it cannot read, or says nonsense of, is three times 0."""
    cv2: Any = importlib.import_module("cv2")
    try:
        found = _looked_at(cv2, sys.argv[1])
    except cv2.error:  # of whatever C++ raises
        found = [0, 0, 0]
    print(json.dumps(found))


def _looked_at(cv2: Any, path: str) -> list[int]:
    capture = cv2.VideoCapture(path)
    wanted = (cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    found = [capture.get(each) for each in wanted]
    capture.release()
    return [int(number) if math.isfinite(number) else 0 for number in found]


if __name__ == "__main__":
    main()
