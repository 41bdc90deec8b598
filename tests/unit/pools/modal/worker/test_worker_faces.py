"""Which face, and where its points stand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.modal.worker.faces import LIMB_PX, Face, largest, limb, placed

sides = st.integers(1, 5000)


@given(photo=st.tuples(sides, sides), canvas=st.tuples(sides, sides), share=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_points_of_a_photo_lie_on_the_canvas_in_the_same_proportion(
    photo: tuple[int, int], canvas: tuple[int, int], share: tuple[float, float]
) -> None:
    """The photo fits whole, is not stretched, and stands in the middle."""
    inside = (share[0] * photo[0], share[1] * photo[1])
    [corner, point, far] = placed([(0.0, 0.0), inside, (float(photo[0]), float(photo[1]))], photo, canvas)
    assert all(-1e-6 <= value <= side + 1e-6 for value, side in zip(point, canvas, strict=True))
    assert (corner[0] + far[0], corner[1] + far[1]) == pytest.approx(canvas)
    scales = [(far[axis] - corner[axis]) / photo[axis] for axis in (0, 1)]
    assert scales[0] == pytest.approx(scales[1]) == pytest.approx(min(canvas[0] / photo[0], canvas[1] / photo[1]))


def test_a_limb_is_a_long_ellipse_from_point_to_point() -> None:
    """Its ends are the points, its width is eight pixels, whatever its direction."""
    corners = limb((10.0, 10.0), (40.0, 50.0))
    lengths = [math.dist(corner, (25.0, 30.0)) for corner in corners]
    assert max(lengths) == pytest.approx(25.0)
    assert min(lengths) == pytest.approx(LIMB_PX, rel=0.02)
    assert any(math.dist(corner, (40.0, 50.0)) < 1e-9 for corner in corners)


def test_of_several_faces_the_largest_counts() -> None:
    """And of none, nobody."""
    faces = [Face([float(area)], [], float(area)) for area in (4, 9, 1)]
    chosen = largest(faces)
    assert chosen is not None
    assert chosen.area == 9.0
    assert largest([]) is None
