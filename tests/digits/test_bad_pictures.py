"""A file that cannot be read gives one clear line."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_lit.digits.picture_file import BadPicture, read_picture
from mnist_lit.digits.trained_network import open_network
from mnist_lit.errors import UserError
from tests.digits.picture_styles import STYLES


def encode(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def make_bomb(side: int = 20_000) -> bytes:
    """A PNG of 50 kB that needs 1.2 GB when decoded."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(3 * side + 1)) for _ in range(side // 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GOOD = STYLES["photo"](3, np.random.default_rng(0))
STILLS = [Image.new("L", (20, 20), shade) for shade in (0, 100, 200)]
BAD = {
    "text": (b"this is a letter, not a picture\n" * 20, "not a picture"),
    "html": (b"<!doctype html><img src=x>", "not a picture"),
    "cut short": (GOOD[: len(GOOD) // 2], "damaged"),
    "cut short png": ((png := encode(Image.new("RGB", (300, 300))))[: len(png) // 2], "damaged"),
    "empty": (b"", "0 bytes"),
    "1 x 1": (encode(Image.new("RGB", (1, 1))), "too small: 1 × 1"),
    "1 x 5000": (encode(Image.new("RGB", (1, 5000))), "too small: 1 × 5,000"),
    "strip": (encode(Image.new("RGB", (10, 300))), "too narrow: 10 × 300"),
    "bomb": (make_bomb(), "too large"),
    "large": (encode(Image.new("1", (9000, 9000))), "too large: 9,000 × 9,000"),
    "animated": (encode(STILLS[0], "GIF", save_all=True, append_images=STILLS[1:]), "animated"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n{} loop\n", "of the kind EPS, which cannot be read"),
    "eps as heic": (b"%!PSftypheic\n%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n{} loop\n", "cannot be read"),
    "pages": (encode(STILLS[0], "TIFF", save_all=True, append_images=STILLS[1:]), "several pages"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_each_fault_is_one_line(name: str) -> None:
    content, message = BAD[name]
    with pytest.raises(BadPicture, match=message) as raised:
        read_picture(content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["cut short", "cut short png", "1 x 1", "animated"])
def test_a_picture_of_pillow_has_the_same_faults(name: str) -> None:
    """Pillow loads a file late, so its picture can be damaged."""
    content, message = BAD[name]
    with pytest.raises(BadPicture, match=message):
        read_picture(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("style", ["cmyk", "sixteen bit", "palette", "on transparent"])
def test_unusual_formats_are_read(style: str) -> None:
    assert read_picture(STYLES[style](3, np.random.default_rng(0)))[0].mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"no checkpoint", GOOD])
@pytest.mark.parametrize("name", ["model.onnx", "best.ckpt"])
def test_the_error_for_a_bad_network_file_names_the_file(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path / "missing" / name):
        with pytest.raises(UserError, match=name) as raised:
            open_network(path)
        assert "\n" not in str(raised.value)
