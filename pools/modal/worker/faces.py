"""The face of a photo, and the drawing of its five points that InstantID's IdentityNet was trained on."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

PACK: Final = "antelopev2"
"""Of InsightFace, whose embeddings InstantID's adapter was trained on. Its weights are for non-commercial research."""

Point = tuple[float, float]
NOSE: Final = 2
LIMBS: Final = (0, 1, 3, 4)  # both eyes and both corners of the mouth, each joined to the nose
COLOURS: Final = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
LIMB_SHARE: Final = 0.6  # of a colour's brightness
LIMB_PX: Final = 4  # half the width of a limb
POINT_PX: Final = 10  # radius
CORNERS: Final = 36  # of the polygon that stands for a limb's ellipse


@dataclass(frozen=True)
class Face:
    """One face: what identifies it, and its eyes, nose and corners of the mouth in pixels of the photo."""

    embedding: Sequence[float]
    points: Sequence[Point]
    area: float


class FaceFinder(Protocol):
    """Finds faces in a photo (PIL's image in RGB)."""

    def __call__(self, photo: Any) -> Sequence[Face]: ...


def largest(faces: Sequence[Face]) -> Face | None:
    """Whose picture is made where several people are on a photo."""
    return max(faces, key=lambda face: face.area, default=None)


def placed(points: Sequence[Point], photo: tuple[int, int], canvas: tuple[int, int]) -> list[Point]:
    """Points of a photo on a canvas: the whole photo as large as it fits, in the middle."""
    scale = min(canvas[0] / photo[0], canvas[1] / photo[1])
    left, top = (canvas[0] - scale * photo[0]) / 2, (canvas[1] - scale * photo[1]) / 2
    return [(left + scale * x, top + scale * y) for x, y in points]


def limb(start: Point, end: Point) -> list[Point]:
    """The corners of a long ellipse from one point to the other."""
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    half = math.dist(start, end) / 2
    turn = math.atan2(end[1] - start[1], end[0] - start[0])
    corners = []
    for step in range(CORNERS):
        along, across = half * math.cos(math.tau * step / CORNERS), LIMB_PX * math.sin(math.tau * step / CORNERS)
        corners.append(
            (
                middle[0] + along * math.cos(turn) - across * math.sin(turn),
                middle[1] + along * math.sin(turn) + across * math.cos(turn),
            )
        )
    return corners


def drawn(points: Sequence[Point], canvas: tuple[int, int]) -> Any:
    """PIL's image of a face's points: dim limbs to the nose, bright points over them, on black."""
    image_module: Any = importlib.import_module("PIL.Image")
    draw_module: Any = importlib.import_module("PIL.ImageDraw")
    image = image_module.new("RGB", canvas)
    pen = draw_module.Draw(image)
    for index in LIMBS:
        dim = tuple(int(LIMB_SHARE * channel) for channel in COLOURS[index])
        pen.polygon(limb(points[index], points[NOSE]), fill=dim)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        pen.ellipse((x - POINT_PX, y - POINT_PX, x + POINT_PX, y + POINT_PX), fill=colour)
    return image


class InsightFaces:
    """InsightFace's detector and recogniser on the CPU, where one photo takes a fraction of a second."""

    def __init__(self, root: str) -> None:
        numpy: Any = importlib.import_module("numpy")
        app: Any = importlib.import_module("insightface.app")
        utils: Any = importlib.import_module("insightface.utils")
        folder = Path(utils.ensure_available("models", PACK, root=root))
        inner = folder / PACK  # its archive has a folder of that name in it
        self._array = numpy.array
        self._analysis = app.FaceAnalysis(
            name=str(inner if inner.is_dir() else folder),
            allowed_modules=["detection", "recognition"],
            providers=["CPUExecutionProvider"],
        )
        self._analysis.prepare(ctx_id=-1, det_size=(640, 640))

    def __call__(self, photo: Any) -> Sequence[Face]:
        blue_first = self._array(photo)[:, :, ::-1]
        return [_face(found) for found in self._analysis.get(blue_first)]


def _face(found: Any) -> Face:
    left, top, right, bottom = (float(side) for side in found["bbox"])
    points = [(float(x), float(y)) for x, y in found["kps"]]
    return Face([float(value) for value in found["embedding"]], points, (right - left) * (bottom - top))
