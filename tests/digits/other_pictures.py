"""Pictures that hold no digit: letters, signs, doodles, things, and blank paper with shadows."""

from collections.abc import Callable
from typing import TypedDict

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.digits.pen_strokes import smooth
from tests.digits.picture_styles import (
    PAPER,
    PEN,
    Random,
    cast_shadow,
    colorize,
    draw_strokes,
    encode,
    photograph,
)

LETTERS = "ACDEFGHJKLMNPQRTUVWXYadefhkmnprtuvwxy"  # without those that look like digits: B, I, O, S, Z, b, g, l, …
SIGNS = "&%#@?!+=*$€{}~ßæøñ<>"


class Pen(TypedDict):
    fill: int
    width: int


class Outline(TypedDict):
    outline: int
    width: int


def write_letter(rng: Random, letters: str = LETTERS) -> bytes:
    sheet = Image.new("L", (300, 300))
    font = ImageFont.load_default(float(rng.uniform(120, 200)))
    letter = letters[rng.integers(len(letters))]
    ImageDraw.Draw(sheet).text((150, 150), letter, fill=255, font=font, anchor="mm")
    ink = np.asarray(sheet.rotate(rng.uniform(-10, 10), Image.Resampling.BICUBIC)) / 255
    return photograph(colorize(ink, PAPER, PEN), rng)


def write_sign(rng: Random) -> bytes:
    return write_letter(rng, SIGNS)


def scribble(rng: Random) -> bytes:
    """One to three lines that go anywhere."""
    strokes = [smooth(rng.uniform(40, 260, (int(rng.integers(5, 10)), 2))) for _ in range(int(rng.integers(1, 4)))]
    return encode(colorize(draw_strokes(strokes, 300, rng.uniform(5, 14))))


def draw_a_thing(rng: Random) -> bytes:
    """A house, a sun, a flower, a tree or a face."""
    sheet = Image.new("L", (300, 300))
    draw = ImageDraw.Draw(sheet)
    pen = Pen(fill=255, width=int(rng.integers(5, 11)))
    outline = Outline(outline=255, width=pen["width"])
    kind = int(rng.integers(5))
    if kind == 0:
        draw.rectangle((80, 140, 220, 260), **outline)
        draw.line((70, 140, 150, 60, 230, 140), **pen)
        draw.rectangle((130, 190, 165, 260), **outline)
    elif kind == 1:
        draw.ellipse((110, 110, 190, 190), **outline)
        for angle in np.arange(8) * np.pi / 4 + rng.uniform(0, 1):
            x, y = np.cos(angle), np.sin(angle)
            draw.line((150 + 40 * x, 150 + 40 * y, 150 + 100 * x, 150 + 100 * y), **pen)
    elif kind == 2:
        for angle in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 1):
            x, y = 150 + 45 * np.cos(angle), 110 + 45 * np.sin(angle)
            draw.ellipse((x - 28, y - 28, x + 28, y + 28), **outline)
        draw.line((150, 130, 150, 280), **pen)
    elif kind == 3:
        draw.polygon((150, 40, 80, 140, 220, 140), **outline)
        draw.polygon((150, 100, 60, 220, 240, 220), **outline)
        draw.line((150, 220, 150, 270), **pen)
    else:
        draw.ellipse((60, 60, 240, 240), **outline)
        draw.line((110, 110, 110, 130), **pen)
        draw.line((190, 110, 190, 130), **pen)
        draw.arc((100, 130, 200, 210), 20, 160, **pen)
        draw.line((150, 140, 150, 165), **pen)
    return photograph(colorize(np.asarray(sheet.rotate(rng.uniform(-15, 15))) / 255, PAPER, PEN), rng)


def photograph_things(rng: Random) -> bytes:
    """Objects with many colors on a ground, as in a photo of a desk."""
    pixels = Image.fromarray(rng.integers(60, 200, (5, 5, 3)).astype(np.uint8)).resize(
        (400, 400), Image.Resampling.BICUBIC
    )
    draw = ImageDraw.Draw(pixels)
    for _ in range(int(rng.integers(4, 12))):
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        corners = [
            tuple(map(float, corner))
            for corner in rng.uniform(0, 400, 2) + rng.uniform(-90, 90, (int(rng.integers(3, 7)), 2))
        ]
        draw.polygon(corners, fill=color)
    return photograph(np.asarray(pixels.filter(ImageFilter.GaussianBlur(1)), float), rng)


def leave_blank(rng: Random) -> bytes:
    blank = colorize(np.zeros((400, 400), np.float32), PAPER, PEN)
    return photograph(blank * cast_shadow(400, rng, rng.uniform(0.2, 0.6)), rng)


OTHERS: dict[str, Callable[[Random], bytes]] = {
    "letter": write_letter,
    "sign": write_sign,
    "scribble": scribble,
    "thing": draw_a_thing,
    "photo of things": photograph_things,
    "blank with a shadow": leave_blank,
}
