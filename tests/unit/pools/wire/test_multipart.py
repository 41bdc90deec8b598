"""Forms: read as those behind the router read them, or refused."""

from __future__ import annotations

import pytest

from pools.wire.multipart import BadForm, boundary_of, form_of, parts_of

DISPOSITION = b"Content-Disposition: form-data; "


def form(*parts: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"


def read(*parts: tuple[bytes, bytes]) -> dict[str, tuple[bytes, bool]]:
    body = form((DISPOSITION + b'name="size"', b"256x256"), *parts)
    return {part.name: (body[part.start : part.end], part.is_file) for part in parts_of(body, b"b")}


@pytest.mark.parametrize(
    "head",
    [
        DISPOSITION + b'name="x"; name="size"',
        DISPOSITION + b"name=\"x\"; name*=UTF-8''size",
        DISPOSITION + b"name=\"size\"; filename*=UTF-8''a",
        DISPOSITION + b'foo=" name="x; name="size"',
        DISPOSITION + b'name="si\\ze"',
        DISPOSITION + b'name="x"\r\n' + DISPOSITION + b'name="size"',
        b'Content-Disposition: name="size"',
        b"Content-Type: text/plain",
    ],
)
def test_a_field_that_others_read_under_another_name_is_refused(head: bytes) -> None:
    """Found by comparing with python-multipart, which engines read forms with: its `size` would have passed unseen."""
    with pytest.raises(BadForm):
        read((head, b"4096x4096"))


@pytest.mark.parametrize(
    ("head", "is_file"),
    [
        (DISPOSITION + b'name="size"; foo=" filename="', False),
        (DISPOSITION + b'foo="a; filename="; name="size"', False),
        (b'Content-DispositionX: form-data; name="x"\r\n' + DISPOSITION + b'name="size"', False),
        (b'CONTENT-disposition: form-data; NAME="size"; FILENAME="a"', True),
        (DISPOSITION + b"name=size", False),
        (DISPOSITION + b'name="size"; filename="a\\"; name=\\"b.png"', True),
        (DISPOSITION + 'name="size"; filename="файл ☃.png"; filename*=utf-8\'\'a'.encode(), True),
    ],
)
def test_a_field_is_read_as_others_read_it(head: bytes, is_file: bool) -> None:
    """Whatever stands in quotes names nothing else; files are those with a plain file name."""
    assert read((head, b"4096x4096"))["size"] == (b"4096x4096", is_file)


@pytest.mark.parametrize(
    "body",
    [
        b"before\r\n" + form((DISPOSITION + b'name="a"', b"1")),
        form((DISPOSITION + b'name="a"', b'1\r\n--bc\r\nContent-Disposition: form-data; name="size"\r\n\r\n2')),
        form((DISPOSITION + b'name="a"', b"1")).replace(b"--b\r\n", b"--b \r\n"),
    ],
)
def test_parts_that_begin_where_others_see_none_are_refused(body: bytes) -> None:
    """Text before the first delimiter, and lines that merely begin like one."""
    with pytest.raises(BadForm):
        parts_of(body, b"b")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=b", b"b"),
        ('multipart/form-data; boundary="a,b:c"', b"a,b:c"),
        ('multipart/form-data; foo="boundary=x"; BOUNDARY=b ; charset=utf-8;', b"b"),
    ],
)
def test_the_boundary_is_the_parameter_of_that_name(content_type: str, boundary: bytes) -> None:
    """In quotes or not, with whatever characters a boundary may have."""
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b"],
)
def test_a_boundary_that_is_none_or_two_is_refused(content_type: str) -> None:
    """Whoever reads the other one would see another form."""
    with pytest.raises(BadForm):
        boundary_of(content_type)


def test_names_cannot_leave_their_quotes() -> None:
    """What was one field of a JSON object is one field of the form."""
    content_type, body = form_of({'size"; x="': "4096x4096", "a\r\n\r\nb": "1", "size": "256x256"})
    names = [part.name for part in parts_of(body, boundary_of(content_type))]
    assert names == ["size%22; x=%22", "a%0D%0A%0D%0Ab", "size"]
