"""What cannot be read is one clear line, and the other pictures are still read."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.own_styles import STYLES
from mnist_lit.digits.networks import open_network
from mnist_lit.digits.picture import BadPicture, read_picture
from mnist_lit.errors import UserError


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG of 50 kB that would take 1.2 GB."""

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
    "cut short png": ((png := encoded(Image.new("RGB", (300, 300))))[: len(png) // 2], "damaged"),
    "empty": (b"", "0 bytes"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1))), "too small: 1 × 1"),
    "1 x 5000": (encoded(Image.new("RGB", (1, 5000))), "too small: 1 × 5,000"),
    "strip": (encoded(Image.new("RGB", (10, 300))), "too narrow: 10 × 300"),
    "bomb": (bomb(), "too large"),
    "large": (encoded(Image.new("1", (9000, 9000))), "too large: 9,000 × 9,000"),
    "animated": (encoded(STILLS[0], "GIF", save_all=True, append_images=STILLS[1:]), "animated"),
    "pages": (encoded(STILLS[0], "TIFF", save_all=True, append_images=STILLS[1:]), "several pages"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_each_fault_is_named_in_one_line(name: str) -> None:
    content, said = BAD[name]
    with pytest.raises(BadPicture, match=said) as raised:
        read_picture(content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("style", ["cmyk", "sixteen bit", "palette", "on transparent"])
def test_unusual_kinds_are_no_fault(style: str) -> None:
    assert read_picture(STYLES[style](3, np.random.default_rng(0)))[0].mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"no checkpoint", GOOD])
@pytest.mark.parametrize("name", ["model.onnx", "best.ckpt"])
def test_what_is_no_network_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path / "missing" / name):
        with pytest.raises(UserError, match=name) as raised:
            open_network(path)
        assert "\n" not in str(raised.value)
