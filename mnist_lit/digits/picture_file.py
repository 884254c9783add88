"""A picture file of any kind → one upright RGB picture, or one line that names the fault."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_lit.errors import UserError, install_command

MOST_PIXELS = 64_000_000  # 200 MB for each copy of the decoded picture
LEAST_SIDE = 5  # pixels: fewer are not enough to distinguish ten digits
NARROWEST = 20  # the longer side may be this many times the shorter one
ENOUGH = 800  # pixels a side: a larger JPEG is decoded at a fraction of its size, which is much faster
CLEAR = 1800  # the same for a picture with several digits


ADVICE = {
    "HEIC": f"{install_command('heic')}, or save it as PNG or JPEG",
    "PDF": "save its page as PNG or JPEG",
    "EPS": "save it as PNG or JPEG",
    "SVG": "save it as PNG or JPEG",
}


class BadPicture(UserError):
    """A picture that cannot be read. The message is one line and does not name the file."""


def read_picture(source: Path | bytes | Image.Image, enough: int = ENOUGH) -> tuple[Image.Image, float]:
    """An upright RGB picture with the background filled in where it is transparent, and the width of one of its pixels
    in pixels of the file.

    Raises:
        BadPicture: if it is no picture, damaged, animated, too small or too large.
    """
    if isinstance(source, Image.Image):
        with naming_the_fault():
            _check_size(source)
            return _to_rgb(ImageOps.exif_transpose(source)), 1.0
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise BadPicture(error.strerror or str(error)) from error
    if not content:
        raise BadPicture("is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, and of sizes, which are checked here
        return _decode(content, enough)


def can_read_heic() -> bool:
    """Let Pillow read HEIC, the format of phones, if the package for it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ModuleNotFoundError:
        return False
    register_heif_opener()
    return True


def _decode(content: bytes, enough: int) -> tuple[Image.Image, float]:
    kind = _unread_kind(content)
    if kind == "HEIC" and can_read_heic():
        kind = None
    with naming_the_fault(kind), Image.open(io.BytesIO(content)) as picture:
        if picture.format == "EPS":  # Pillow would start Ghostscript, and wait for it without a limit
            raise UnidentifiedImageError
        _check_size(picture)
        width = picture.width
        picture.draft(None, (enough, enough))
        ImageOps.exif_transpose(picture, in_place=True)
        return _to_rgb(picture), width / picture.width


@contextmanager
def naming_the_fault(kind: str | None = None) -> Iterator[None]:
    """Pillow's errors become BadPicture. It loads a picture late, so any use of one can raise them. `kind` is the
    kind of a picture that is not read."""
    try:
        yield
    except BadPicture:
        raise
    except UnidentifiedImageError as error:
        if kind is None:
            raise BadPicture("is not a picture that can be read") from error
        raise BadPicture(f"is a picture of the kind {kind}, which cannot be read; {ADVICE[kind]}") from error
    except Image.DecompressionBombError as error:
        raise BadPicture(f"is too large: at most {MOST_PIXELS:,} pixels can be read") from error
    except Exception as error:  # a decoder can raise anything for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadPicture(f"is damaged ({reason})") from error


def _unread_kind(content: bytes) -> str | None:
    """The kinds that people have in their folders and that are not read."""
    if content.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return "EPS"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return "HEIC"
    if content.startswith(b"%PDF"):
        return "PDF"
    return "SVG" if b"<svg" in content[:4096].lower() else None


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    size = f"{width:,} × {height:,}"
    if width * height > MOST_PIXELS:
        raise BadPicture(f"is too large: {size}, at most {MOST_PIXELS:,} pixels can be read")
    if min(width, height) < LEAST_SIDE:
        raise BadPicture(f"is too small: {size} pixels, at least {LEAST_SIDE} × {LEAST_SIDE} are needed")
    if max(width, height) > NARROWEST * min(width, height):
        raise BadPicture(f"is too narrow: {size} pixels, at most 1 to {NARROWEST} can be read")
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # the other frames of an MPO are previews of the first
        raise BadPicture(f"is animated or has several pages ({frames}); a single picture is needed")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # Pillow would clip 16 bits and more instead of scaling them
        values = np.array(picture, dtype=np.float32)
        np.nan_to_num(values, copy=False)
        values -= values.min()
        values *= 255 / max(values.max(), 1e-9)
        picture = Image.fromarray(values.astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        return _fill_transparency(picture.convert("RGBA"))
    return picture.convert("RGB")


def _fill_transparency(picture: Image.Image) -> Image.Image:
    """Fill transparent pixels with the color of the paper if most of the picture is opaque. Otherwise only the digit is
    opaque, and the filling is its opposite: white for dark ink, black for light ink."""
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
