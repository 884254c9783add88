"""Pictures of one digit in the styles in which people bring them: pens, papers, light, sizes and files."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.own_strokes import Stroke, written

Random = np.random.Generator
Digit = int | np.ndarray  # one to be written, or a picture of one [28, 28] uint8 to be copied, whatever the pen
Style = Callable[[Digit, Random], bytes]
Colour = tuple[float, ...]


def pen(
    digit: Digit,
    rng: Random,
    side: int,
    width: float,
    *,
    height: float = 0.6,
    slant: float = 0.12,
    margin: float = 0.05,
) -> np.ndarray:
    """Ink [side, side] in 0 to 1: the digit `height` of the side tall, somewhere on it, strokes `width` pixels wide."""
    if isinstance(digit, np.ndarray):
        return copied(digit, rng, side, height)
    strokes = written(digit, rng, slant)
    tall = height * side
    points = np.concatenate(strokes) * tall
    low, high = points.min(0), points.max(0)
    room = np.maximum(side * (1 - 2 * margin) - (high - low), 0)
    place = side * margin + room * rng.uniform(0.15, 0.85, 2) - low
    return drawn([stroke * tall + place for stroke in strokes], side, width)


def copied(picture: np.ndarray, rng: Random, side: int, height: float) -> np.ndarray:
    """Ink [side, side] in 0 to 1: the picture's digit, enlarged to that part of the side, somewhere on it."""
    large = round(28 / 20 * height * side)
    soft = Image.fromarray(picture).resize((large, large), Image.Resampling.BICUBIC)
    sharp = np.clip((np.asarray(soft, np.float32) / 255 - 0.5) * large / 28 + 0.5, 0, 1)
    left, top = rng.integers(0, max(1, side - large + 1), 2)
    ink = np.zeros((side, side), np.float32)
    ink[top : top + large, left : left + large] = sharp[: side - top, : side - left]
    return ink


def drawn(strokes: list[Stroke], side: int, width: float) -> np.ndarray:
    zoom = 1 if side > 500 else 4
    sheet = Image.new("L", (side * zoom, side * zoom))
    draw = ImageDraw.Draw(sheet)
    radius = max(0.5, width * zoom / 2)
    for stroke in strokes:
        points = [(float(x) * zoom, float(y) * zoom) for x, y in stroke]
        draw.line(points, fill=255, width=max(1, round(2 * radius)), joint="curve")
        if radius > 1:
            for x, y in (points[0], points[-1]):
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(sheet.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def coloured(ink: np.ndarray, paper: Colour = (255, 255, 255), pen: Colour = (0, 0, 0)) -> np.ndarray:
    return np.array(paper) * (1 - ink[..., None]) + np.array(pen) * ink[..., None]


def saved(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, format, **options)
    return stream.getvalue()


def photographed(pixels: np.ndarray, rng: Random, noise: float = 4, light: float = 0.3) -> bytes:
    """As a phone's camera sees it: light from one side, noise, a little out of focus, JPEG."""
    side = len(pixels)
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, side), np.linspace(-0.5, 0.5, side), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    lit = pixels * (0.8 + light * (x * np.cos(angle) + y * np.sin(angle)) - 0.2 * light * (x * x + y * y))[..., None]
    soft = np.asarray(
        Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(side / 500))
    )
    return saved(soft + rng.normal(0, noise, (side, side, 1)), "JPEG", quality=int(rng.integers(50, 92)))


def squared(side: int, rng: Random, spacing: float = 0.2, dark: float = 0.25, rows_only: bool = False) -> np.ndarray:
    """Printed lines [side, side] in 0 to 1, a little askew, as dark as `dark`."""
    zoom, gap = 2, spacing * side
    sheet = Image.new("L", (side * zoom, side * zoom))
    draw = ImageDraw.Draw(sheet)
    slope, start = rng.uniform(-0.06, 0.06), rng.uniform(0, gap)
    for number in range(-2, int(side / gap) + 3):
        place, end = (start + number * gap) * zoom, side * zoom
        width = max(1, round(side * zoom * 0.006))
        draw.line((0, place, end, place + slope * end), fill=255, width=width)
        if not rows_only:
            draw.line((place, 0, place - slope * end, end), fill=255, width=width)
    return np.asarray(sheet.resize((side, side), Image.Resampling.BOX), np.float32) / 255 * dark


def shadow(side: int, rng: Random, depth: float = 0.5) -> np.ndarray:
    """Light [side, side, 1] in 0 to 1: a hand's or a phone's shadow over a part of the picture, its edge a bit soft."""
    sheet = Image.new("L", (side, side), 255)
    along, tilt = rng.uniform(0.25, 0.75) * side, rng.uniform(-0.4, 0.4) * side
    corners = [(0, 0), (along + tilt, 0), (along - tilt, side), (0, side)]
    ImageDraw.Draw(sheet).polygon(corners, fill=round(255 * (1 - depth)))
    turned = sheet.rotate(float(rng.choice([0, 90, 180, 270]))).filter(ImageFilter.GaussianBlur(side / 80))
    return np.asarray(turned, np.float32)[..., None] / 255


def any_colour(rng: Random) -> tuple[Colour, Colour]:
    """A paper and a pen that an eye can tell apart."""
    while True:
        paper, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        if np.linalg.norm(paper - ink) > 150:
            return tuple(paper), tuple(ink)


PAPER = (225, 222, 215)
PEN = (40, 42, 60)


def thin(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 600, 3)))


def hairline(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 1000, 1, height=rng.uniform(0.4, 0.8))))


def thick(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 280, 26, height=0.65, margin=0.12)))


def fat(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 280, 38, height=0.68, margin=0.14)))


def slanted(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 300, 12, slant=0.6)))


def turned(digit: Digit, rng: Random) -> bytes:
    ink = Image.fromarray((255 * pen(digit, rng, 300, 12, height=0.5, margin=0.2)).astype(np.uint8))
    return saved(255 - np.asarray(ink.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)))


def icon(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 32, 2.5, height=0.7)))


def faint_icon(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 28, 1.2, height=0.65), pen=(90, 90, 90)))


def huge(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 2400, 60)), "JPEG")


def lost(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 1200, 4, height=0.05)))


def any_colours(digit: Digit, rng: Random) -> bytes:
    paper, ink = any_colour(rng)
    return saved(coloured(pen(digit, rng, 300, 12), paper, ink))


def yellow(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 300, 14), pen=(250, 235, 60)))


def chalk(digit: Digit, rng: Random) -> bytes:
    ink = pen(digit, rng, 400, 16) * rng.uniform(0.5, 1, (400, 400))
    return photographed(coloured(ink, (45, 65, 55), (235, 235, 225)), rng)


def photo(digit: Digit, rng: Random) -> bytes:
    return photographed(coloured(pen(digit, rng, 500, 7), PAPER, PEN), rng)


def squared_paper(digit: Digit, rng: Random) -> bytes:
    lines = squared(500, rng, rng.uniform(0.12, 0.3))
    return photographed(coloured(np.maximum(pen(digit, rng, 500, 9), lines), PAPER, PEN), rng)


def dark_squares(digit: Digit, rng: Random) -> bytes:
    lines = squared(500, rng, rng.uniform(0.15, 0.3), dark=0.6)
    return photographed(coloured(np.maximum(pen(digit, rng, 500, 10), lines), PAPER, PEN), rng)


def lined_paper(digit: Digit, rng: Random) -> bytes:
    lines = squared(500, rng, rng.uniform(0.2, 0.4), dark=0.45, rows_only=True)
    return photographed(coloured(np.maximum(pen(digit, rng, 500, 9), lines), PAPER, PEN), rng)


def pencil(digit: Digit, rng: Random) -> bytes:
    grain = rng.uniform(0.25, 0.7, (500, 500))
    return photographed(coloured(pen(digit, rng, 500, 8) * grain, PAPER, (70, 70, 75)), rng)


def shadowed(digit: Digit, rng: Random) -> bytes:
    return photographed(coloured(pen(digit, rng, 500, 9), PAPER, PEN) * shadow(500, rng), rng)


def dim(digit: Digit, rng: Random) -> bytes:
    return photographed(coloured(pen(digit, rng, 500, 9), PAPER, PEN) * 0.3, rng, noise=8, light=0.8)


def noisy(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 200, 10)) + rng.normal(0, 50, (200, 200, 1)))


def salt_and_pepper(digit: Digit, rng: Random) -> bytes:
    pixels, dots = coloured(pen(digit, rng, 200, 10)), rng.random((200, 200))
    pixels[dots < 0.02], pixels[dots > 0.98] = 0, 255
    return saved(pixels)


def blurred(digit: Digit, rng: Random) -> bytes:
    sharp = Image.fromarray(coloured(pen(digit, rng, 300, 14), PAPER, PEN).astype(np.uint8))
    return saved(np.asarray(sharp.filter(ImageFilter.GaussianBlur(6))))


def broken(digit: Digit, rng: Random) -> bytes:
    ink = pen(digit, rng, 300, 11)
    for x, y in rng.integers(0, 296, (500, 2)):
        ink[y : y + 4, x : x + 4] = 0
    return saved(coloured(ink))


def to_the_edge(digit: Digit, rng: Random) -> bytes:
    ink = pen(digit, rng, 300, 16, height=0.6, margin=0.15)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return saved(coloured(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def cut_off(digit: Digit, rng: Random) -> bytes:
    ink = pen(digit, rng, 300, 14, height=0.6, margin=0.1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = round(0.06 * (rows[-1] - rows[0]))
    side = int(rng.integers(4))
    top, bottom = rows[0] + cut if side == 0 else 0, rows[-1] - cut if side == 1 else 300
    left, right = columns[0] + cut if side == 2 else 0, columns[-1] - cut if side == 3 else 300
    return saved(coloured(ink[top:bottom, left:right]))


def on_transparent(digit: Digit, rng: Random) -> bytes:
    alpha = 255 * pen(digit, rng, 300, 12)
    ink = np.full((300, 300, 3), float(rng.choice([0, 255])))
    return saved(np.dstack([ink, alpha]))


def sixteen_bit(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((65535 * (1 - pen(digit, rng, 300, 12))).astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def cmyk(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(coloured(pen(digit, rng, 300, 12), PAPER, PEN).astype(np.uint8)).convert("CMYK").save(
        stream, "JPEG"
    )
    return stream.getvalue()


def palette(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(coloured(pen(digit, rng, 300, 12), *any_colour(rng)).astype(np.uint8))
    picture.quantize(8).save(stream, "GIF")
    return stream.getvalue()


def lying_on_its_side(digit: Digit, rng: Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to stand upright
    lying = np.rot90(coloured(pen(digit, rng, 300, 12), PAPER, PEN))
    return saved(lying, "JPEG", exif=exif.tobytes())


def poor_jpeg(digit: Digit, rng: Random) -> bytes:
    return saved(coloured(pen(digit, rng, 120, 6), PAPER, PEN), "JPEG", quality=8)


STYLES: dict[str, Style] = {
    style.__name__.replace("_", " "): style
    for style in (
        thin, hairline, thick, fat, slanted, turned, icon, faint_icon, huge, lost, any_colours, yellow, chalk, photo,
        squared_paper, dark_squares, lined_paper, pencil, shadowed, dim, noisy, salt_and_pepper, blurred, broken,
        to_the_edge, cut_off, on_transparent, sixteen_bit, cmyk, palette, lying_on_its_side, poor_jpeg,
    )
}  # fmt: skip
