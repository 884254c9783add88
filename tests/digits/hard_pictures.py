"""Pictures that are hard to prepare: frames, cloth, forms, uneven pens, tight crops; and pictures of several digits."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tests.digits.pen_strokes import write_digit
from tests.digits.picture_styles import (
    PAPER,
    PEN,
    Digit,
    Random,
    Style,
    colorize,
    crop_to_ink,
    draw_digit,
    draw_strokes,
    encode,
    photograph,
)


def put_on_dark_ground(digit: Digit, rng: Random) -> bytes:
    """A sheet of paper, slightly turned, on a dark table."""
    sheet = colorize(draw_digit(digit, rng, 400, 10, height=0.5, margin=0.12), PAPER, PEN)
    turned = Image.fromarray(sheet.astype(np.uint8)).convert("RGBA").rotate(rng.uniform(-8, 8), expand=True)
    ground = np.array([rng.uniform(20, 70), rng.uniform(20, 60), rng.uniform(20, 50)])
    side = int(max(turned.size) * rng.uniform(1.02, 1.2))
    picture = Image.fromarray(np.broadcast_to(ground, (side, side, 3)).astype(np.uint8))
    place = ((side - turned.width) // 2, (side - turned.height) // 2)
    picture.paste(turned, place, turned)
    return photograph(np.asarray(picture, float), rng)


def put_in_a_frame(digit: Digit, rng: Random) -> bytes:
    pixels = colorize(draw_digit(digit, rng, 300, 14, margin=0.15))
    width = int(rng.integers(2, 14))
    for edge in (np.s_[:width], np.s_[-width:], np.s_[:, :width], np.s_[:, -width:]):
        pixels[edge] = rng.uniform(0, 60)
    return encode(pixels)


def put_in_a_box(digit: Digit, rng: Random) -> bytes:
    """A form's box around the digit. The box does not reach the picture's edge."""
    ink = Image.fromarray((255 * draw_digit(digit, rng, 400, 9, height=0.4, margin=0.26)).astype(np.uint8))
    left, top, right, bottom = (float(value) for value in rng.uniform(20, 70, 4))
    ImageDraw.Draw(ink).rectangle((left, top, 400 - right, 400 - bottom), outline=int(rng.integers(150, 256)), width=3)
    ink = ink.rotate(rng.uniform(-4, 4), Image.Resampling.BICUBIC)
    return photograph(colorize(np.asarray(ink) / 255, PAPER, PEN), rng)


def put_on_a_line(digit: Digit, rng: Random) -> bytes:
    """A form's line below the digit. It ends before the picture's edges."""
    ink = Image.fromarray((255 * draw_digit(digit, rng, 400, 9, height=0.4, margin=0.2)).astype(np.uint8))
    y, slope = 400 * 0.86, rng.uniform(-10, 10)
    ends = (rng.uniform(5, 60), y, 400 - rng.uniform(5, 60), y + slope)
    ImageDraw.Draw(ink).line(ends, fill=int(rng.integers(150, 256)), width=3)
    return photograph(colorize(np.asarray(ink) / 255, PAPER, PEN), rng)


def put_beside_cloth(digit: Digit, rng: Random) -> bytes:
    pixels = colorize(draw_digit(digit, rng, 400, 10, height=0.4, margin=0.22), PAPER, PEN)
    cloth = Image.fromarray(rng.integers(0, 256, (30, 30, 3)).astype(np.uint8)).resize(
        (400, 400), Image.Resampling.BICUBIC
    )
    depth = np.arange(400) + rng.uniform(-0.1, 0.1) * np.arange(400)[:, None]
    beside = np.rot90(depth < rng.uniform(30, 70), int(rng.integers(4)))
    pixels[beside] = np.asarray(cloth)[beside] * 0.7
    return photograph(pixels, rng)


def press_unevenly(digit: Digit, rng: Random) -> bytes:
    """A pen that hardly writes in a part of each stroke."""
    ink = draw_digit(digit, rng, 400, 6)
    pressure = Image.fromarray(rng.uniform(0, 255, (4, 4)).astype(np.uint8)).resize(
        (400, 400), Image.Resampling.BICUBIC
    )
    return photograph(colorize(ink * (0.4 + 0.6 * np.asarray(pressure) / 255), PAPER, PEN), rng)


def crop_fat_strokes(digit: Digit, rng: Random) -> bytes:
    ink = draw_digit(digit, rng, 300, 52, height=0.6, margin=0.18)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    margin = int(rng.integers(2, 8))
    inside = np.s_[max(0, rows[0] - margin) : rows[-1] + margin, max(0, columns[0] - margin) : columns[-1] + margin]
    return encode(colorize(ink[inside]))


def dot_the_zero(digit: Digit, rng: Random) -> bytes:
    """A 0 with a dot in it, which touches the picture's edge. Other digits are only cropped."""
    if digit != 0:
        return crop_to_ink(digit, rng)
    picture = Image.new("L", (120, 150), 255)
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 0, 118, 149), outline=0, width=int(rng.integers(8, 14)))
    draw.line((58, 60, 62, 60 + int(rng.integers(10, 40))), fill=0, width=10)
    return encode(np.asarray(picture.convert("RGB")))


HARD_STYLES: dict[str, Style] = {
    "sheet on a dark ground": put_on_dark_ground,
    "in a frame": put_in_a_frame,
    "in a form's box": put_in_a_box,
    "on a form's line": put_on_a_line,
    "beside cloth": put_beside_cloth,
    "uneven pen": press_unevenly,
    "fat and tight": crop_fat_strokes,
    "dotted zero": dot_the_zero,
}


def write_row(
    digits: str, rng: Random, left: float, top: float, height: float, gap: float, slant: float = 0.12
) -> list[np.ndarray]:
    """The strokes of digits side by side. `gap` is the space between two digits in pixels, negative if they overlap."""
    strokes = []
    for digit in digits:
        lines = [line * height for line in write_digit(int(digit), rng, slant)]
        points = np.concatenate(lines)
        strokes += [line - points.min(0) + [left, top] for line in lines]
        left += np.ptp(points[:, 0]) + gap
    return strokes


def write_page(
    rows: list[str],
    rng: Random,
    side: int,
    height: float,
    pen: float,
    gap: float,
    leading: float = 1.5,
    slant: float = 0.12,
) -> np.ndarray:
    """Ink [side, side] of rows of digits."""
    strokes = []
    for number, row in enumerate(rows):
        top = height * (0.4 + leading * number) + rng.uniform(-0.05, 0.05) * height
        strokes += write_row(row, rng, rng.uniform(0.3, 0.8) * height, top, height, gap, slant)
    return draw_strokes(strokes, side, pen)


def choose_rows(rng: Random, rows: int, columns: int) -> list[str]:
    return ["".join(map(str, rng.integers(0, 10, columns))) for _ in range(rows)]


Page = tuple[bytes, list[str]]


def fill_a_small_page(rng: Random) -> Page:
    rows = choose_rows(rng, 5, 10)
    return encode(colorize(write_page(rows, rng, 280, 20, 2.2, 12, leading=2.4))), rows


def write_close_rows(rng: Random) -> Page:
    rows = choose_rows(rng, 5, 5)
    return encode(colorize(write_page(rows, rng, 500, 72, 7, 24, leading=1.3))), rows


def slant_neighbors(rng: Random) -> Page:
    """The digits are so slanted that they overlap in x, and do not touch."""
    rows = choose_rows(rng, 1, 5)
    strokes = write_row(rows[0], rng, 60, 100, 110, 20)
    for stroke in strokes:
        stroke[:, 0] -= 0.4 * (stroke[:, 1] - 150)
    return encode(colorize(draw_strokes(strokes, 560, 8)[:320])), rows


def leave_a_dark_edge(rng: Random) -> Page:
    """A page that ends in the picture: the ground beside it is dark, and the page's corner is in the shadow."""
    rows = choose_rows(rng, 2, 5)
    pixels = colorize(write_page(rows, rng, 800, 110, 8, 40), PAPER, PEN)
    depth = np.arange(800) + rng.uniform(-0.05, 0.05) * np.arange(800)[:, None]
    pixels[depth > 770] = rng.uniform(10, 60)
    shadow = Image.new("L", (800, 800), 255)
    ImageDraw.Draw(shadow).ellipse((450, 550, 1000, 1100), fill=int(rng.integers(80, 160)))
    light = np.asarray(shadow.filter(ImageFilter.GaussianBlur(30)))[..., None] / 255
    return photograph(pixels * light, rng), rows


def fill_a_large_page(rng: Random) -> Page:
    rows = choose_rows(rng, 12, 20)
    return photograph(colorize(write_page(rows, rng, 1700, 42, 4, 30, leading=2.6), PAPER, PEN), rng), rows


def touch_the_edge(rng: Random) -> Page:
    rows = choose_rows(rng, 1, 4)
    ink = draw_strokes(write_row(rows[0], rng, 60, 100, 130, 30), 640, 11)
    lines, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return encode(colorize(ink[lines[0] : lines[-1] + 1, columns[0] - 30 : columns[-1] + 30])), rows


def mix_sizes(rng: Random) -> Page:
    rows = choose_rows(rng, 1, 3)
    small = choose_rows(rng, 1, 2)[0]
    strokes = write_row(rows[0], rng, 40, 80, 150, 40)
    strokes += write_row(small, rng, max(stroke[:, 0].max() for stroke in strokes) + 40, 130, 60, 24)
    return encode(colorize(draw_strokes(strokes, 700, 9)[:320])), [rows[0] + small]


PAGES: dict[str, Callable[[Random], Page]] = {
    "small page": fill_a_small_page,
    "close rows": write_close_rows,
    "slanted neighbors": slant_neighbors,
    "dark edge": leave_a_dark_edge,
    "large page": fill_a_large_page,
    "touching the edge": touch_the_edge,
    "two sizes": mix_sizes,
}
