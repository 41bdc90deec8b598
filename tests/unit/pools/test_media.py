"""How time and memory of pictures and clips follow from their size, and forms field by field."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.catalog.load import load_catalog
from pools.media import MediaAsked, activation_gib, clip_us, patches, work
from pools.spec import MediaSize, ModelKind
from pools.wire.multipart import BadForm, boundary_of, parts_of, with_fields
from support.choosing import shipped

CLIP = MediaSize(832, 480, 50, 81, 16)
PICTURE = MediaSize(1024, 1024, 28)
CATALOG = load_catalog()


def picture(**more: int) -> MediaAsked:
    return MediaAsked(ModelKind.IMAGE, **more)


def test_what_is_not_said_is_the_model_s_own() -> None:
    """Nothing asked for is one item at the size of the catalogue's figures."""
    assert picture().on(PICTURE) == PICTURE
    assert work(picture(), PICTURE) == 1.0
    assert work(picture(width=2048, height=512, steps=14, items=3), PICTURE) == pytest.approx(1.5)


def test_a_clip_s_seconds_are_frames_of_the_model_s_rate() -> None:
    """Two seconds at 16 frames are 32; frames that are said count first."""
    two_s = MediaAsked(ModelKind.VIDEO, seconds=2.0)
    assert two_s.on(CLIP).frames == 32
    assert MediaAsked(ModelKind.VIDEO, seconds=2.0, frames=81).on(CLIP).frames == 81
    assert clip_us(two_s.on(CLIP)) == 2_000_000
    assert clip_us(PICTURE) == 0


def test_the_estimate_is_the_catalogue_s_at_its_own_size_and_behind_others() -> None:
    """FLUX on the T4: 20 s, of which 1.3 once a request; four steps more are 18.7 s more, another in front 20."""
    rung = shipped("gpu-requirements-hybrid").classes["flux-schnell"].ladder[0]
    assert rung.timing.estimate_media(picture(), 0).total_s == pytest.approx(20)
    assert rung.timing.estimate_media(picture(steps=8), 0).total_s == pytest.approx(38.7)
    assert rung.timing.estimate_media(picture(), 1).total_s == pytest.approx(40)


def test_working_memory_grows_with_pixels_and_number_but_not_with_steps() -> None:
    """Two pictures of FLUX take two times 2.4 GiB, however many steps."""
    pool = shipped("gpu-requirements-hybrid").classes["flux-dev"].ladder[0].pool
    assert activation_gib(pool, picture(items=2, steps=99)) == pytest.approx(4.8)
    assert activation_gib(pool, picture(width=512, height=512)) == pytest.approx(0.6)


def test_pictures_that_are_decoded_one_by_one_share_most_of_their_memory() -> None:
    """Four of InstantID in our worker took 2.85 GiB in bfloat16 and 2.26 in float16, where one took 2.5 and 1.5."""
    pools = CATALOG.pools
    four = picture(items=4)
    assert 2.85 <= activation_gib(pools["instantid-fp16-a10"], four) == pytest.approx(4.0)
    assert 2.26 <= activation_gib(pools["instantid-fp16-t4"], four) == pytest.approx(2.4)


def test_a_short_clip_takes_what_a_long_one_does() -> None:
    """Wan's decoder goes frame by frame: 8.5 GiB for 17 frames, 8.8 for the row's 81; beyond them memory grows."""
    pool = CATALOG.pools["wan2.1-1.3b-bf16-l40s"]

    def clip(frames: int) -> float:
        return activation_gib(pool, MediaAsked(ModelKind.VIDEO, frames=frames))

    assert clip(17) == clip(81) == pytest.approx(8.8)
    assert clip(162) == pytest.approx(17.6)


@given(st.integers(16, 4096), st.integers(16, 4096), st.integers(1, 10))
def test_shapes_never_shrink_when_more_is_asked(width: int, height: int, items: int) -> None:
    """Patches grow with width, height and number, so that a larger request is never taken for a smaller shape."""
    small = patches(picture(width=width, height=height, items=items), PICTURE)
    assert patches(picture(width=width + 16, height=height, items=items), PICTURE) >= small
    assert patches(picture(width=width, height=height, items=items + 1), PICTURE) > small


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join(parts) + b"--b--\r\n"


names = st.text("abcdefgh_", min_size=1, max_size=8)
values = st.binary(max_size=60).filter(lambda value: b"--b" not in value)


@given(st.lists(st.tuples(names, values), max_size=5, unique_by=lambda field: field[0]), values)
def test_setting_a_field_changes_that_field_alone(fields: list[tuple[str, bytes]], value: bytes) -> None:
    """Whatever a form holds, all else stays as it is; a field that is missing is added."""
    changed = with_fields(form(*fields), b"b", {"model": value})
    found = {part.name: changed[part.start : part.end] for part in parts_of(changed, b"b")}
    assert found == {**dict(fields), "model": value}


def test_a_file_is_known_by_its_name() -> None:
    """A part with a file's name is one; quotes around the boundary are not part of it."""
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nx\r\n--b--'
    [part] = parts_of(body, boundary_of('multipart/form-data; boundary="b"'))
    assert (part.name, part.is_file, body[part.start : part.end]) == ("image", True, b"x")


@pytest.mark.parametrize(("lines", "ok"), [(1, True), (3000, False)])
def test_headers_of_a_part_are_bounded(lines: int, ok: bool) -> None:
    """Megabytes of them would take long to look through, in a process that serves others."""
    body = b'--b\r\n%bContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--' % (b"X: yes\r\n" * lines)
    if ok:
        assert [part.name for part in parts_of(body, b"b")] == ["a"]
    else:
        with pytest.raises(BadForm, match="16384 bytes of a part's headers"):
            parts_of(body, b"b")


@given(st.binary(max_size=200))
def test_no_bytes_are_anything_but_a_form_or_a_bad_one(body: bytes) -> None:
    """Whatever comes, it is read, or refused as a form."""
    with contextlib.suppress(BadForm):
        assert all(0 <= part.start <= part.end <= len(body) for part in parts_of(body, b"b"))
