"""Pictures of one digit in many styles: pens, papers, light, sizes and file formats."""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.digits.pen_strokes import Stroke, write_digit

Random = np.random.Generator
Digit = int | np.ndarray  # a digit to draw, or a picture of a digit [28, 28] uint8 to copy without a pen
Style = Callable[[Digit, Random], bytes]
Color = tuple[float, ...]


def draw_digit(
    digit: Digit,
    rng: Random,
    side: int,
    width: float,
    *,
    height: float = 0.6,
    slant: float = 0.12,
    margin: float = 0.05,
) -> np.ndarray:
    """Return ink [side, side] in 0 to 1 with the digit at a random place.

    `height` is the height of the digit as a fraction of the side. `width` is the stroke width in pixels.
    """
    if isinstance(digit, np.ndarray):
        return copy_digit(digit, rng, side, height)
    strokes = write_digit(digit, rng, slant)
    tall = height * side
    points = np.concatenate(strokes) * tall
    low, high = points.min(0), points.max(0)
    room = np.maximum(side * (1 - 2 * margin) - (high - low), 0)
    place = side * margin + room * rng.uniform(0.15, 0.85, 2) - low
    return draw_strokes([stroke * tall + place for stroke in strokes], side, width)


def copy_digit(picture: np.ndarray, rng: Random, side: int, height: float) -> np.ndarray:
    """Return ink [side, side] in 0 to 1 with the digit of the picture, enlarged to `height`, at a random place."""
    large = round(28 / 20 * height * side)
    soft = Image.fromarray(picture).resize((large, large), Image.Resampling.BICUBIC)
    sharp = np.clip((np.asarray(soft, np.float32) / 255 - 0.5) * large / 28 + 0.5, 0, 1)
    left, top = rng.integers(0, max(1, side - large + 1), 2)
    ink = np.zeros((side, side), np.float32)
    ink[top : top + large, left : left + large] = sharp[: side - top, : side - left]
    return ink


def draw_strokes(strokes: list[Stroke], side: int, width: float) -> np.ndarray:
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


def colorize(ink: np.ndarray, paper: Color = (255, 255, 255), pen: Color = (0, 0, 0)) -> np.ndarray:
    return np.array(paper) * (1 - ink[..., None]) + np.array(pen) * ink[..., None]


def encode(pixels: np.ndarray, format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, format, **options)
    return stream.getvalue()


def photograph(pixels: np.ndarray, rng: Random, noise: float = 4, light: float = 0.3) -> bytes:
    """Return the pixels as a phone photo: light from one side, noise, a slight blur, JPEG."""
    side = len(pixels)
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, side), np.linspace(-0.5, 0.5, side), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    lit = pixels * (0.8 + light * (x * np.cos(angle) + y * np.sin(angle)) - 0.2 * light * (x * x + y * y))[..., None]
    soft = np.asarray(
        Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(side / 500))
    )
    return encode(soft + rng.normal(0, noise, (side, side, 1)), "JPEG", quality=int(rng.integers(50, 92)))


def draw_grid(side: int, rng: Random, spacing: float = 0.2, dark: float = 0.25, rows_only: bool = False) -> np.ndarray:
    """Return printed lines [side, side] in 0 to 1, slightly rotated. `dark` is the darkness of the lines."""
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


def cast_shadow(side: int, rng: Random, depth: float = 0.5) -> np.ndarray:
    """Return light [side, side, 1] in 0 to 1: the shadow of a hand or a phone on the picture, with a soft edge."""
    sheet = Image.new("L", (side, side), 255)
    along, tilt = rng.uniform(0.25, 0.75) * side, rng.uniform(-0.4, 0.4) * side
    corners = [(0, 0), (along + tilt, 0), (along - tilt, side), (0, side)]
    ImageDraw.Draw(sheet).polygon(corners, fill=round(255 * (1 - depth)))
    turned = sheet.rotate(float(rng.choice([0, 90, 180, 270]))).filter(ImageFilter.GaussianBlur(side / 80))
    return np.asarray(turned, np.float32)[..., None] / 255


def choose_colors(rng: Random) -> tuple[Color, Color]:
    """Return a paper color and a pen color with enough contrast."""
    while True:
        paper, ink = rng.uniform(0, 255, 3), rng.uniform(0, 255, 3)
        if np.linalg.norm(paper - ink) > 150:
            return tuple(paper), tuple(ink)


PAPER = (225, 222, 215)
PEN = (40, 42, 60)


def draw_rotated(digit: Digit, rng: Random) -> bytes:
    ink = Image.fromarray((255 * draw_digit(digit, rng, 300, 12, height=0.5, margin=0.2)).astype(np.uint8))
    return encode(255 - np.asarray(ink.rotate(rng.uniform(-15, 15), Image.Resampling.BICUBIC)))


def draw_in_any_colors(digit: Digit, rng: Random) -> bytes:
    paper, ink = choose_colors(rng)
    return encode(colorize(draw_digit(digit, rng, 300, 12), paper, ink))


def draw_with_chalk(digit: Digit, rng: Random) -> bytes:
    ink = draw_digit(digit, rng, 400, 16) * rng.uniform(0.5, 1, (400, 400))
    return photograph(colorize(ink, (45, 65, 55), (235, 235, 225)), rng)


def draw_on_squared_paper(digit: Digit, rng: Random) -> bytes:
    lines = draw_grid(500, rng, rng.uniform(0.12, 0.3))
    return photograph(colorize(np.maximum(draw_digit(digit, rng, 500, 9), lines), PAPER, PEN), rng)


def draw_on_dark_squares(digit: Digit, rng: Random) -> bytes:
    lines = draw_grid(500, rng, rng.uniform(0.15, 0.3), dark=0.6)
    return photograph(colorize(np.maximum(draw_digit(digit, rng, 500, 10), lines), PAPER, PEN), rng)


def draw_on_lined_paper(digit: Digit, rng: Random) -> bytes:
    lines = draw_grid(500, rng, rng.uniform(0.2, 0.4), dark=0.45, rows_only=True)
    return photograph(colorize(np.maximum(draw_digit(digit, rng, 500, 9), lines), PAPER, PEN), rng)


def draw_with_pencil(digit: Digit, rng: Random) -> bytes:
    grain = rng.uniform(0.25, 0.7, (500, 500))
    return photograph(colorize(draw_digit(digit, rng, 500, 8) * grain, PAPER, (70, 70, 75)), rng)


def add_salt_and_pepper(digit: Digit, rng: Random) -> bytes:
    pixels, dots = colorize(draw_digit(digit, rng, 200, 10)), rng.random((200, 200))
    pixels[dots < 0.02], pixels[dots > 0.98] = 0, 255
    return encode(pixels)


def blur(digit: Digit, rng: Random) -> bytes:
    sharp = Image.fromarray(colorize(draw_digit(digit, rng, 300, 14), PAPER, PEN).astype(np.uint8))
    return encode(np.asarray(sharp.filter(ImageFilter.GaussianBlur(6))))


def break_strokes(digit: Digit, rng: Random) -> bytes:
    ink = draw_digit(digit, rng, 300, 11)
    for x, y in rng.integers(0, 296, (500, 2)):
        ink[y : y + 4, x : x + 4] = 0
    return encode(colorize(ink))


def crop_to_ink(digit: Digit, rng: Random) -> bytes:
    ink = draw_digit(digit, rng, 300, 16, height=0.6, margin=0.15)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return encode(colorize(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))


def cut_one_side(digit: Digit, rng: Random) -> bytes:
    ink = draw_digit(digit, rng, 300, 14, height=0.6, margin=0.1)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = round(0.06 * (rows[-1] - rows[0]))
    side = int(rng.integers(4))
    top, bottom = rows[0] + cut if side == 0 else 0, rows[-1] - cut if side == 1 else 300
    left, right = columns[0] + cut if side == 2 else 0, columns[-1] - cut if side == 3 else 300
    return encode(colorize(ink[top:bottom, left:right]))


def draw_on_transparent(digit: Digit, rng: Random) -> bytes:
    alpha = 255 * draw_digit(digit, rng, 300, 12)
    ink = np.full((300, 300, 3), float(rng.choice([0, 255])))
    return encode(np.dstack([ink, alpha]))


def encode_sixteen_bit(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    Image.fromarray((65535 * (1 - draw_digit(digit, rng, 300, 12))).astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def encode_cmyk(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(colorize(draw_digit(digit, rng, 300, 12), PAPER, PEN).astype(np.uint8)).convert("CMYK").save(
        stream, "JPEG"
    )
    return stream.getvalue()


def encode_palette(digit: Digit, rng: Random) -> bytes:
    stream = io.BytesIO()
    picture = Image.fromarray(colorize(draw_digit(digit, rng, 300, 12), *choose_colors(rng)).astype(np.uint8))
    picture.quantize(8).save(stream, "GIF")
    return stream.getvalue()


def encode_with_rotation(digit: Digit, rng: Random) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer must rotate the picture by 90 degrees
    lying = np.rot90(colorize(draw_digit(digit, rng, 300, 12), PAPER, PEN))
    return encode(lying, "JPEG", exif=exif.tobytes())


STYLES: dict[str, Style] = {
    "thin": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 600, 3))),
    "hairline": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 1000, 1, height=rng.uniform(0.4, 0.8)))),
    "thick": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 280, 26, height=0.65, margin=0.12))),
    "fat": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 280, 38, height=0.68, margin=0.14))),
    "slanted": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 300, 12, slant=0.6))),
    "turned": draw_rotated,
    "icon": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 32, 2.5, height=0.7))),
    "faint icon": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 28, 1.2, height=0.65), pen=(90, 90, 90))),
    "huge": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 2400, 60)), "JPEG"),
    "tiny": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 1200, 4, height=0.05))),
    "any colors": draw_in_any_colors,
    "yellow": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 300, 14), pen=(250, 235, 60))),
    "chalk": draw_with_chalk,
    "photo": lambda digit, rng: photograph(colorize(draw_digit(digit, rng, 500, 7), PAPER, PEN), rng),
    "squared paper": draw_on_squared_paper,
    "dark squares": draw_on_dark_squares,
    "lined paper": draw_on_lined_paper,
    "pencil": draw_with_pencil,
    "shadowed": lambda digit, rng: photograph(
        colorize(draw_digit(digit, rng, 500, 9), PAPER, PEN) * cast_shadow(500, rng), rng
    ),
    "dim": lambda digit, rng: photograph(
        colorize(draw_digit(digit, rng, 500, 9), PAPER, PEN) * 0.3, rng, noise=8, light=0.8
    ),
    "noisy": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 200, 10)) + rng.normal(0, 50, (200, 200, 1))),
    "salt and pepper": add_salt_and_pepper,
    "blurred": blur,
    "broken": break_strokes,
    "to the edge": crop_to_ink,
    "cut off": cut_one_side,
    "on transparent": draw_on_transparent,
    "sixteen bit": encode_sixteen_bit,
    "cmyk": encode_cmyk,
    "palette": encode_palette,
    "lying on its side": encode_with_rotation,
    "poor jpeg": lambda digit, rng: encode(colorize(draw_digit(digit, rng, 120, 6), PAPER, PEN), "JPEG", quality=8),
}
