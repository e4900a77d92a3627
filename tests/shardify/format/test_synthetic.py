"""The mark of synthetic pictures in the files that carry it."""

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from shardify.format.synthetic import KEYWORD, LONGEST, MARK, is_synthetic

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))


def saved(format, **how):
    file = io.BytesIO()
    PICTURE.save(file, format, **how)
    return file.getvalue()


def png(keyword, text, add="add_text"):
    info = PngImagePlugin.PngInfo()
    getattr(info, add)(keyword, text)
    return saved("PNG", pnginfo=info)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(KEYWORD, MARK), True),
        (png("Comment", f"{MARK} of a run"), True),  # as the standard spells it
        (png(KEYWORD, f"a {MARK}", "add_itxt"), True),
        (saved("JPEG", comment=f"{MARK}, run x".encode()), True),
        (png("Title", MARK), False),
        (png(KEYWORD, "a holiday"), False),
        (png(KEYWORD, " " * LONGEST + MARK), False),
        (saved("JPEG", comment=b"a holiday"), False),
        (saved("PNG"), False),
        (saved("JPEG"), False),
        (saved("WEBP"), False),
        (b"", False),
    ],
)
def test_comments_with_the_mark_are_found(content, expected):
    assert is_synthetic(io.BytesIO(content)) is expected


def test_a_mark_behind_the_picture_is_found():
    """Where ImageMagick writes texts."""
    whole, plain = png(KEYWORD, MARK), saved("PNG")
    begin = whole.index(b"tEXt") - 4
    chunk = whole[begin : begin + 12 + int.from_bytes(whole[begin : begin + 4], "big")]
    assert is_synthetic(io.BytesIO(plain[:-12] + chunk + plain[-12:]))


def test_pillow_carries_the_mark_from_png_to_jpeg():
    file = io.BytesIO()
    Image.open(io.BytesIO(png(KEYWORD, MARK))).save(file, "JPEG")
    assert is_synthetic(file)


def test_damaged_files_are_read_to_an_end():
    for content in (png(KEYWORD, MARK), saved("JPEG", comment=MARK.encode())):
        rng = np.random.default_rng(1)
        for _ in range(200):
            damaged = bytearray(content[: rng.integers(2, len(content))])
            damaged[rng.integers(len(damaged))] = rng.integers(256)
            assert is_synthetic(io.BytesIO(damaged)) in (True, False)
    assert not is_synthetic(io.BytesIO(b"\xff\xd8" + b"\xff\xe0\x00\x00" * 9))  # lengths of 0 still lead on
