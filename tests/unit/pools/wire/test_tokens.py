"""Prompt tokens estimated from bytes, images from their headers, ratios learnt from usage."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pools.spec import ModelKind, ModelSpec
from pools.wire.images import ImageSize, size_in_data_url, size_of
from pools.wire.tokens import Prompt, TokenRatios, image_tokens, prompt_of

MODEL = ModelSpec(
    id="vl",
    repo="r",
    kind=ModelKind.VISION,
    params_b=8,
    active_params_b=8,
    weights_gib={},
    tokenizer="t",
    image_patch=32,
    image_tokens_max=16384,
)


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00"


def jpeg(width: int, height: int, thumbnail: int = 0) -> bytes:
    """Segments as a camera writes them: the frame stands behind an application segment that may hold a thumbnail."""
    segments = b""
    while thumbnail > 0:
        piece = min(thumbnail, 60_000)
        segments += b"\xff\xe1" + struct.pack(">H", piece + 2) + b"\xc0" * piece
        thumbnail -= piece
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x00" * 9
    return b"\xff\xd8" + segments + b"\xff\xdb" + struct.pack(">H", 4) + b"\x00\x00" + b"\xff" + frame


def webp_lossy(width: int, height: int) -> bytes:
    return b"RIFF\x00\x00\x00\x00WEBPVP8 " + b"\x00" * 10 + struct.pack("<HH", width, height)


def webp_lossless(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return b"RIFF\x00\x00\x00\x00WEBPVP8L\x00\x00\x00\x00\x2f" + struct.pack("<I", bits)


def webp_extended(width: int, height: int) -> bytes:
    edges = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x00\x00\x00WEBPVP8X" + b"\x00" * 8 + edges


FORMATS = (png, gif, jpeg, webp_lossy, webp_lossless, webp_extended)


def data_url(data: bytes) -> str:
    return "data:image/x;base64," + base64.b64encode(data).decode()


def chat(*content: object, **fields: object) -> bytes:
    messages = [{"role": "user", "content": each} for each in content]
    return json.dumps({"messages": messages, **fields}).encode()


@given(st.sampled_from(FORMATS), st.integers(1, 16383), st.integers(1, 16383))
def test_every_format_tells_its_size(make: object, width: int, height: int) -> None:
    """PNG, GIF, JPEG and the three kinds of WebP, by the first bytes, followed by whatever comes."""
    assert callable(make)
    assert size_in_data_url(data_url(make(width, height) + b"\xff" * 5000)) == ImageSize(width, height)


def test_a_jpeg_behind_a_large_thumbnail_is_found_and_one_beyond_the_bound_is_not() -> None:
    """Up to a mebibyte is looked through, not more."""
    assert size_in_data_url(data_url(jpeg(640, 480, thumbnail=200_000) + b"\x00" * 2_000_000)) == ImageSize(640, 480)
    assert size_in_data_url(data_url(jpeg(640, 480, thumbnail=1_500_000))) is None


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8", b"RIFF0000WEBPVP8L", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
)
def test_a_broken_image_has_no_size_and_breaks_nothing(rest: bytes, start: bytes) -> None:
    """Any bytes give a size above nothing, or None."""
    size = size_of(start + rest)
    assert size is None or (size.width > 0 and size.height > 0)


@pytest.mark.parametrize(
    "url", ["", "https://host/a.png", "data:image/png,abc", "data:image/png;base64,!!!", "data:image/png;base64,"]
)
def test_other_urls_have_no_size(url: str) -> None:
    """Remote images, other encodings and garbage: unknown."""
    assert size_in_data_url(url) is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (ImageSize(32, 32), 1),
        (ImageSize(33, 32), 2),
        (ImageSize(1024, 768), 32 * 24),
        (ImageSize(16383, 16383), 16384),
        (None, 16384),
    ],
)
def test_an_image_counts_its_patches_up_to_the_models_maximum(size: ImageSize | None, expected: int) -> None:
    """A patch begun counts; an image of unknown size counts as the largest."""
    assert image_tokens(MODEL, size) == expected


def test_text_of_messages_prompt_and_tools_counts() -> None:
    """All that becomes prompt is measured, other fields are not."""
    assert prompt_of(b'{"model":"m","prompt":"abcd","stop":["xxxxxxxx"]}').text_bytes == len('"abcd"')
    tools = [{"type": "function", "function": {"name": "f"}}]
    plain = prompt_of(chat("hello")).text_bytes
    assert prompt_of(chat("hello", tools=tools, user="u" * 99)).text_bytes == plain + len(json.dumps(tools))


def test_images_are_taken_out_of_the_text() -> None:
    """A data URL is no text; both spellings of `image_url` are known, other parts and plain contents too."""
    url = data_url(png(64, 64) + b"\x00" * 10_000)
    body = chat(
        "hi",
        [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url, "detail": "high"}}],
        [{"type": "image_url", "image_url": "https://host/x.jpg"}],
        None,
    )
    prompt = prompt_of(body)
    assert prompt.images == (ImageSize(64, 64), None)
    assert prompt.text_bytes < 400


def test_the_prior_is_four_bytes_a_token() -> None:
    """Without any answer yet, with the images on top; never less than one token."""
    ratios = TokenRatios()
    assert ratios.estimate(MODEL, Prompt(4000, (ImageSize(64, 64),))).tokens == 1004
    assert ratios.estimate(MODEL, Prompt(0)).tokens == 1


@given(st.floats(1.2, 7.5))
def test_the_ratio_is_learnt_and_the_range_narrows(true_ratio: float) -> None:
    """After a few hundred answers the estimate is within 3% and its range within 10% of the truth."""
    ratios = TokenRatios()
    for text_bytes in [500, 2000, 8000] * 100:
        prompt = Prompt(text_bytes, (ImageSize(32, 32),))
        ratios.observe(MODEL, prompt, round(text_bytes / true_ratio) + 1)
    seen = ratios.estimate(MODEL, Prompt(10_000))
    assert seen.tokens == pytest.approx(10_000 / true_ratio, rel=0.03)
    assert seen.low <= seen.tokens <= seen.high <= seen.tokens * 1.1


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7))))
def test_no_usage_can_push_the_ratio_out_of_bounds(observed: list[tuple[int, int]]) -> None:
    """Whatever an engine reports, a token stays between 1 and 8 bytes."""
    ratios = TokenRatios()
    for text_bytes, tokens in observed:
        ratios.observe(MODEL, Prompt(text_bytes), tokens)
    assert 1000 <= ratios.estimate(MODEL, Prompt(8000)).tokens <= 8000


def test_a_remote_image_teaches_nothing() -> None:
    """Its tokens cannot be told from the text's."""
    ratios = TokenRatios()
    ratios.observe(MODEL, Prompt(4000, (None,)), 40_000)
    assert ratios.estimate(MODEL, Prompt(4000)).tokens == 1000
