"""Clips that are restored by a program: what it is told, and how a run ends. The programs here are stand-ins."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pools.modal.worker.asked import BadRequest, Body
from pools.modal.worker.line import ClientLeft
from pools.modal.worker.probe import Clip, probe_by_opencv
from pools.modal.worker.program import run_program
from pools.modal.worker.restore import Restorer, Usual, asked_of
from pools.modal.worker.server import JobFailed
from support.full_disk import files_at_most
from support.repository import ROOT

USUAL = Usual((1280, 720), 49, 24.0)
MP4 = b"\x00\x00\x00\x18ftypmp42"
PRINTS = 1_000_000
COPIES = "import sys; open(sys.argv[3], 'wb').write(b'made')"


def here() -> bool:
    return False


def body(clip: bytes = MP4, **fields: Any) -> Body:
    return Body(fields, {"input_reference": clip})


def restorer(folder: Path, code: str = COPIES, within_s: float = 30) -> Restorer:
    program = folder / "stand_in.py"
    program.write_text(code, encoding="utf-8")
    work = folder / "work"
    work.mkdir()
    return Restorer(program, folder, "model.safetensors", work, within_s)


def made(restorer: Restorer, clip: bytes = MP4, frames: int = 10, gone: Any = here) -> bytes:
    return restorer.make(asked_of(body(clip), USUAL), lambda path: Clip(frames, 320, 240), gone).body


@pytest.mark.parametrize(
    ("fields", "frames", "size"),
    [
        ({}, 49, (1280, 720)),
        ({"num_frames": "30", "seconds": "9", "size": "640x480"}, 30, (640, 480)),
        ({"seconds": "2.5"}, 60, (1280, 720)),
        ({"seconds": "1e300", "fps": "1e300"}, 2000, (1280, 720)),
        ({"seconds": "2", "fps": "30", "width": "720", "height": "1280"}, 60, (720, 1280)),
    ],
)
def test_a_request_is_for_as_many_frames_as_it_was_priced_for(
    fields: dict[str, Any], frames: int, size: tuple[int, int]
) -> None:
    """As the router counts them: frames, or seconds at its own or the model's frame rate, or the model's item."""
    asked = asked_of(body(**fields), USUAL)
    assert (asked.frames, asked.size, asked.suffix) == (frames, size, ".mp4")


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (Body({}), "input_reference"),
        (body(b""), "input_reference"),
        (body(b"a text"), "input_reference"),
        (body(b"<!--ftyp --><MPD/>"), "input_reference"),
        (body(num_frames="0"), "num_frames"),
        (body(num_frames="9" * 5000), "num_frames"),
        (body(seconds="-1"), "seconds"),
        (body(seconds="nan"), "seconds"),
        (body(seconds=10**400), "seconds"),
        (body(fps="x", seconds="1"), "fps"),
        (body(size="721x480"), "size"),
        (body(seed="-1"), "seed"),
    ],
)
def test_bad_requests_are_refused_before_the_program(asked: Body, param: str) -> None:
    """With the field that is wrong."""
    with pytest.raises(BadRequest) as refused:
        asked_of(asked, USUAL)
    assert refused.value.param == param


def test_what_the_program_makes_comes_back_and_nothing_stays(tmp_path: Path) -> None:
    """Its own folder is removed after each run."""
    works = restorer(tmp_path)
    assert made(works) == b"made"
    assert list(works.folder.iterdir()) == []


def test_a_file_that_is_no_clip_does_not_reach_the_program(tmp_path: Path) -> None:
    """Whatever its first bytes promise."""
    works = restorer(tmp_path, "raise SystemExit('never started')")
    with pytest.raises(BadRequest, match="cannot be read"):
        works.make(asked_of(body(), USUAL), lambda path: None, here)


def test_a_clip_that_memory_would_not_hold_does_not_reach_the_program(tmp_path: Path) -> None:
    """A file of kilobytes may hold gigabytes of pixels, which would end the container for everybody."""
    works = restorer(tmp_path, "raise SystemExit('never started')")
    with pytest.raises(BadRequest, match="more than 500,000,000 pixels"):
        works.make(asked_of(body(), USUAL), lambda path: Clip(49, 16_384, 16_384), here)


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("raise MemoryError('CUDA out of memory. Tried 9 GiB'); ", 500, "MemoryError: CUDA out of memory. Tried 9 GiB"),
        (
            "print('torch.OutOfMemoryError: CUDA out of memory'); print('Error: 1'); exit(1)",
            500,
            "torch.OutOfMemoryError",
        ),
        ("exit('OSError: [Errno 28] No space left on device')", 507, "OSError: [Errno 28] No space left"),
        ("print('a banner'); exit(3)", 500, "the program ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", 500, "the program ended with status -9"),
        ("print('all went well')", 500, "the program ended without a clip"),
    ],
)
def test_a_run_that_fails_says_why(tmp_path: Path, code: str, status: int, says: str) -> None:
    """By the line that tells most, so that the router knows what ran out; nothing of the clip stays."""
    works = restorer(tmp_path, code)
    with pytest.raises(JobFailed) as failed:
        made(works)
    assert failed.value.status == status
    assert str(failed.value).startswith(says)
    assert list(works.folder.iterdir()) == []


def test_a_run_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """504, and neither the program nor its children run on."""
    child = tmp_path / "child"
    code = f"import os, time; open({str(child)!r}, 'w').write(str(os.fork() or os.getpid())); time.sleep(600)"
    works = restorer(tmp_path, code, within_s=1.0)
    with pytest.raises(JobFailed, match="took longer than 1 s") as failed:
        made(works)
    assert failed.value.status == 504
    assert not runs(child.read_text())
    assert list(works.folder.iterdir()) == []


def test_a_client_that_leaves_ends_the_run(tmp_path: Path) -> None:
    """As soon as it is looked at."""
    works = restorer(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(ClientLeft):
        made(works, gone=lambda: True)
    assert list(works.folder.iterdir()) == []


def test_a_full_disk_is_this_containers_trouble(tmp_path: Path) -> None:
    """507, by which the router goes to the next pool; what was written is removed, and the next clip is made."""
    works = restorer(tmp_path)
    with files_at_most(4096), pytest.raises(JobFailed, match="disk of this container is full") as failed:
        made(works, MP4 + b"x" * 10_000)
    assert failed.value.status == 507
    assert list(works.folder.iterdir()) == []
    assert made(works) == b"made"


OPENCV = """\
{starts}
CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_COUNT = 3, 4, 7
class error(Exception): pass
class VideoCapture:
    def __init__(self, path): {reads}
    def get(self, what): return {{3: 320.0, 4: 240.0, 7: self.frames}}[what]
    def release(self): pass
"""


@pytest.mark.parametrize(
    ("reads", "found"),
    [
        ("print('a warning'); self.frames = 12.0", Clip(12, 320, 240)),
        ("self.frames = 0.0", None),
        ("self.frames = float('nan')", None),
        ("self.frames = float('-inf')", None),
        ("raise error('Unknown C++ exception from OpenCV code')", None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None),
    ],
)
def test_a_clip_is_looked_at_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str, found: Clip | None
) -> None:
    """One by which the reader crashes is a clip that cannot be read, and the worker lives."""
    assert probed(tmp_path, monkeypatch, reads) == found


def test_a_clip_that_holds_its_reader_for_ever_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader is ended when its time is over."""
    noted = tmp_path / "reader"
    reads = f"import os, time; open({str(noted)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    assert probed(tmp_path, monkeypatch, reads, within_s=2.0) is None
    assert not runs(noted.read_text())


def test_a_reader_that_cannot_start_is_not_the_clients_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image without OpenCV answers 500, and not that every clip is broken."""
    with pytest.raises(JobFailed, match="cannot be looked at here") as failed:
        probed(tmp_path, monkeypatch, "pass", starts="raise ImportError('libGL.so.1')")
    assert failed.value.status == 500


def probed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, reads: str, within_s: float = 60.0, starts: str = ""
) -> Clip | None:
    """By a stand-in for OpenCV that does this when it opens a file, and that when it is imported."""
    (folder / "cv2.py").write_text(OPENCV.format(reads=reads, starts=starts), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{ROOT}")
    return probe_by_opencv(folder / "given.mp4", within_s)


def test_the_program_prints_into_a_file_of_its_own(tmp_path: Path) -> None:
    """However much it prints, nobody has to read along; it reads nothing, and works where it is told."""
    code = f"import sys, os; print('x' * {PRINTS}); sys.exit(sys.stdin.read() or os.getcwd() != {str(tmp_path)!r})"
    run_program([sys.executable, "-c", code], tmp_path, 30, here)
    assert (tmp_path / "printed.txt").stat().st_size > PRINTS


def runs(process: str) -> bool:
    """Not so where it has ended and whoever inherited it has not asked yet."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
