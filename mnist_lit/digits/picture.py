"""A file of any kind that people have → one upright RGB picture, or a line that says why not."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_lit.errors import UserError

MOST_PIXELS = 64_000_000  # 200 MB when decoded
LEAST_SIDE = 5  # pixels; ten digits cannot be told apart on fewer
NARROWEST = 20  # times as long as wide
ENOUGH = 800  # pixels a side; a larger JPEG is decoded at a fraction of its size, in a fraction of the time


class BadPicture(UserError):
    """What cannot be read, in one line that does not name the file."""


def read_picture(source: Path | bytes) -> tuple[Image.Image, float]:
    """An upright RGB picture, transparency replaced by paper, and how many of the file's pixels one of its own is wide.

    Raises:
        BadPicture: if it is no picture, damaged, animated, too small or too large.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise BadPicture(error.strerror or str(error)) from error
    if not content:
        raise BadPicture("is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on strange metadata, and on sizes, which are checked here
        return _decoded(content)


def _decoded(content: bytes) -> tuple[Image.Image, float]:
    try:
        with Image.open(io.BytesIO(content)) as picture:
            _check(picture)
            width = picture.width
            picture.draft(None, (ENOUGH, ENOUGH))
            return _as_rgb(ImageOps.exif_transpose(picture)), width / picture.width
    except BadPicture:
        raise
    except UnidentifiedImageError as error:
        raise BadPicture("is not a picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise BadPicture(f"is too large: at most {MOST_PIXELS:,} pixels can be read") from error
    except Exception as error:  # a damaged file can make a decoder stumble in any way
        raise BadPicture(
            f"is damaged ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def _check(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise BadPicture(f"is too large: {width:,} × {height:,}, at most {MOST_PIXELS:,} pixels can be read")
    if min(width, height) < LEAST_SIDE:
        raise BadPicture(
            f"is too small: {width:,} × {height:,} pixels, at least {LEAST_SIDE} × {LEAST_SIDE} are needed"
        )
    if max(width, height) > NARROWEST * min(width, height):
        raise BadPicture(f"is too narrow: {width:,} × {height:,} pixels, at most 1 to {NARROWEST} can be read")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # an MPO's further pictures are previews of the first
        raise BadPicture(f"is animated or has several pages ({frames}); a single picture is needed")


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # 16 bits and more, which Pillow would clip and not scale
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = values.min(), values.max()
        picture = Image.fromarray(((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        return _on_paper(picture.convert("RGBA"))
    return picture.convert("RGB")


def _on_paper(picture: Image.Image) -> Image.Image:
    """What is transparent becomes the colour that surrounds a drawing: that of the paper, if most of the picture is
    opaque, and else the opposite of what is drawn."""
    pixels = np.asarray(picture)
    opaque = pixels[..., :3][pixels[..., 3] > 127]
    if len(opaque) > 0.6 * pixels[..., 3].size:
        paper = tuple(int(value) for value in np.median(opaque, axis=0))
    else:
        dark = len(opaque) == 0 or opaque.mean() < 128
        paper = (255, 255, 255) if dark else (0, 0, 0)
    sheet = Image.new("RGBA", picture.size, (*paper, 255))
    sheet.alpha_composite(picture)
    return sheet.convert("RGB")
