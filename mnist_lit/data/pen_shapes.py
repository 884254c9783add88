"""Shapes that a program draws with a pen: ways to write each digit that MNIST has few of, and shapes that are no digit.

They are functions of random numbers and run on the device of these numbers.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

POINTS, SAMPLES = 24, 64  # control points of a shape at most, points of its line
JITTER = 0.06  # a control point moves by up to this part of the shape's size
NARROWEST = {"digit": 0.65, "other": 0.75}  # a drawn face that is too narrow looks like a 0 with a dot
SLANT, TURN = 0.45, math.radians(8)
# Half of the pen's width in pixels. At 4.0 a digit could not be read.
THINNEST, THICKEST = 1.0, {"digit": 2.0, "other": 4.0}
SIDE, BOX = 28, 20  # as in MNIST
NUMBERS = 2 * POINTS + 8  # random numbers that a shape needs

# Each line is one way to write a digit: x,y in hundredths, y downward. A slash lifts the pen. A point that comes twice
# in a row is a sharp corner.
DIGIT_WAYS = {
    0: """
        50,0 20,12 8,50 20,88 50,100 80,88 92,50 80,12 50,0
        62,3 25,10 10,50 35,98 75,88 88,45 68,8 45,6
        12,5 12,5 8,95 8,95 90,97 90,97 92,3 92,3 12,5
        40,0 8,10 8,90 40,100 65,100 92,85 92,15 65,0 40,0
        50,0 20,12 8,50 20,88 50,100 80,88 92,50 80,12 50,0 / 84,12 18,88
        50,5 22,15 10,50 22,85 50,95 78,85 90,50 78,15 50,5 / 88,-4 14,106
        50,0 20,12 8,50 20,88 50,100 80,88 92,50 80,12 50,0 / 48,48 52,52
    """,
    1: """
        50,0 50,50 50,100
        30,22 52,0 52,0 52,100
        18,42 55,0 55,0 53,100
        8,60 60,0 60,0 56,100
        0,72 62,0 62,0 60,100
        2,55 40,25 62,0 62,0 55,100
        32,12 52,0 52,0 50,100
        28,25 52,0 52,0 52,100 / 22,100 82,100
        8,58 55,0 55,0 55,100 / 18,100 92,100
        0,45 50,0 50,0 50,100
        20,30 60,0 60,0 35,100
        22,24 52,0 52,0 44,100
        12,32 60,0 60,0 50,100
        18,20 50,0 50,0 50,100
        65,0 35,100
    """,
    2: """
        15,22 30,3 60,0 82,20 70,50 12,100 12,100 90,98
        15,20 40,0 78,15 68,50 30,95 12,90 28,76 60,94 92,92
        15,25 45,0 82,12 72,45 15,97 15,97 88,97
        10,10 50,2 85,8 80,40 12,95 12,95 92,92
        20,10 80,5 85,45 15,55 15,98 90,98
    """,
    3: """
        15,12 45,0 78,14 70,38 42,48 42,48 80,60 78,88 45,100 12,88
        15,3 82,3 82,3 45,42 45,42 82,60 72,95 15,93
        15,8 60,0 80,22 40,45 38,52 82,60 70,98 12,92
        12,3 85,3 85,3 80,48 30,48 80,48 85,97 85,97 12,97
        18,15 50,0 75,20 48,45 35,42 48,52 85,72 50,100 10,85
    """,
    4: """
        22,2 15,55 15,55 90,55 / 65,20 65,100
        62,0 10,65 10,65 92,65 / 62,0 62,100
        18,5 12,55 12,55 70,50 / 75,5 72,100
        40,0 10,68 10,68 92,62 / 68,35 58,100
        15,3 15,50 15,50 80,50 / 80,3 80,100
        55,0 8,70 8,70 95,70 / 60,40 60,100
    """,
    5: """
        80,3 28,3 28,3 22,42 22,42 60,36 85,62 65,96 12,92
        30,5 24,45 24,45 62,38 84,65 60,98 12,90 / 30,4 92,0
        85,3 18,3 18,3 18,48 18,48 82,50 82,50 80,97 80,97 12,97
        75,8 40,5 30,40 55,45 75,68 55,95 15,95
        35,3 20,40 20,40 70,45 75,75 45,100 10,90 / 35,3 95,8
    """,
    6: """
        65,0 30,30 15,70 40,100 78,92 80,65 50,52 20,68
        78,0 22,60 18,82 50,100 80,80 55,57 22,72
        85,3 18,5 18,5 15,97 15,97 85,97 85,97 85,50 85,50 17,50
        92,8 50,5 15,45 14,82 45,100 80,85 70,58 18,68
        50,0 18,50 14,88 45,100 62,85 50,68 16,75
        85,5 45,2 18,30 15,97 15,97 80,95 80,95 78,48 78,48 17,52
        30,0 18,60 18,95 60,100 80,75 60,55 18,68
    """,
    7: """
        12,4 85,4 85,4 40,100
        12,4 85,4 85,4 42,100 / 28,52 78,50
        12,4 85,4 85,4 45,100 / 45,58 75,44
        14,22 15,3 15,3 85,4 85,4 45,100
        12,10 50,3 85,5 60,50 50,100
        24,6 76,4 76,4 45,100
        10,14 82,4 82,4 50,100
        12,4 85,4 85,4 50,100 / 52,52 84,46
        18,8 76,2 76,2 40,100 / 35,55 70,45
        10,25 12,6 12,6 88,2 88,2 60,40 45,100 / 30,55 80,48
    """,
    8: """
        75,15 50,0 25,17 40,42 70,62 75,88 50,100 25,85 32,62 65,40 75,15
        50,0 22,22 50,46 78,22 50,0 / 50,46 16,74 50,100 84,74 50,46
        80,8 45,0 22,20 50,46 82,72 50,100 18,75 48,48 85,12
        20,5 80,5 15,95 80,95 20,5
    """,
    9: """
        80,18 50,0 18,25 45,50 80,22 80,22 76,100
        78,15 45,0 18,26 45,50 78,25 80,60 55,98 20,92
        72,8 32,6 20,32 48,48 74,34 / 82,6 80,60 60,98 22,90
        82,3 15,3 15,3 15,48 15,48 80,48 / 82,3 82,100
        85,10 40,0 15,25 40,45 82,15 70,60 40,100
        78,20 50,2 22,22 45,46 78,20 82,70 82,97 20,97
        22,22 25,46 60,44 80,20 64,4 52,20 64,46 80,62 76,94 10,96
    """,
}
OTHER_WAYS = """
    10,100 50,0 50,0 90,100 / 27,62 73,62
    15,0 15,100 / 85,0 15,0 / 15,50 70,50 / 15,100 85,100
    15,0 15,100 / 15,0 85,0 / 15,48 70,48
    15,0 15,100 / 85,0 85,100 / 15,50 85,50
    15,0 15,100 / 85,0 18,50 18,50 85,100
    10,100 10,0 10,0 50,70 50,70 90,0 90,0 90,100
    12,100 12,0 12,0 85,100 85,100 85,0
    15,100 15,0 15,0 70,5 80,28 65,50 15,52
    15,100 15,0 15,0 70,5 78,28 60,50 15,50 / 40,50 85,100
    5,0 95,0 / 50,0 50,100
    5,0 25,100 25,100 50,35 50,35 75,100 75,100 95,0
    10,0 90,100 / 90,0 10,100
    10,0 50,50 50,50 90,0 / 50,50 50,100
    20,0 20,100 / 20,60 50,42 75,60 75,100
    8,40 8,100 8,60 30,42 48,60 48,100 48,60 70,42 90,60 90,100
    20,40 20,100 20,62 50,42 80,62 80,100
    10,50 50,50 / 20,0 20,90 40,100
    10,50 90,50 / 50,10 50,90
    10,35 90,35 / 10,65 90,65
    5,50 95,50 / 70,25 95,50 95,50 70,75
    50,0 20,12 8,50 20,88 50,100 80,88 92,50 80,12 50,0 / 32,35 33,38 / 66,35 67,38 / 30,65 50,78 70,65
    50,0 80,100 80,100 5,38 5,38 95,38 95,38 20,100 20,100 50,0
    50,50 60,42 65,58 45,68 30,50 45,25 75,30 85,60 55,92 15,75 8,35
    50,5 5,95 5,95 95,95 95,95 50,5
    50,25 20,5 5,35 50,98 95,35 80,5 50,25
    5,60 35,95 35,95 95,5
    5,50 20,15 35,80 50,15 65,80 80,15 95,50
    5,20 95,20 5,50 95,50 5,80 95,80
    50,50 10,10 / 50,50 90,10 / 50,50 50,100 / 20,60 80,60
    5,30 25,60 50,30 75,60 95,30 / 5,70 95,70
    10,10 10,90 / 35,10 35,90 / 60,10 60,90 / 85,10 85,90
    20,0 20,90 20,90 90,90
    15,5 15,60 50,98 85,60 85,5
    10,5 50,98 50,98 90,5
    85,20 50,0 12,25 12,75 50,100 85,80
    85,20 50,0 12,25 12,75 50,100 88,80 88,55 88,55 55,55
    12,0 12,70 50,100 88,70 88,0
    80,0 80,75 45,100 15,80
    20,55 50,45 78,60 78,100 / 78,72 40,70 15,85 35,100 78,88
    80,0 80,100 / 80,65 50,50 20,65 20,90 50,100 80,88
    90,0 10,50 10,50 90,100
    10,0 90,50 90,50 10,100
    15,25 25,5 60,0 85,22 55,50 50,72 / 49,92 51,97
    85,20 50,10 15,28 50,50 85,72 50,92 12,80 / 50,0 50,100
    30,10 15,25 30,40 42,25 30,10 / 70,60 58,75 70,90 85,75 70,60 / 85,5 15,95
    90,100 30,35 30,8 55,5 55,28 15,65 30,98 65,90 90,60
    70,0 48,12 52,40 30,50 52,60 48,88 70,100
    30,0 52,12 48,40 70,50 48,60 52,88 30,100
    5,100 35,100 35,55 65,55 65,10 95,10
    0,50 25,25 50,50 25,75 0,50 / 50,50 75,25 100,50 75,75 50,50
    20,100 20,45 20,45 80,45 80,45 80,100 80,100 20,100 / 8,45 8,45 50,5 50,5 92,45 92,45 / 42,100 42,70 42,70 58,70 58,70 58,100
    15,100 15,40 15,40 85,40 85,40 85,100 85,100 15,100 / 15,40 50,0 50,0 85,40 / 40,55 40,75 40,75 60,75 60,75 60,55 60,55 40,55
    5,75 5,55 5,55 25,50 35,30 70,30 80,50 95,55 95,75 95,75 5,75 / 20,75 28,65 36,75 28,85 20,75 / 64,75 72,65 80,75 72,85 64,75
    10,65 30,95 70,95 90,65 90,65 10,65 / 50,65 50,5 50,5 85,55 85,55 50,55
    5,50 30,25 65,30 85,50 65,70 30,75 5,50 / 85,50 100,30 100,30 100,70 100,70 85,50
    20,20 20,20 25,90 25,90 65,90 65,90 70,20 70,20 20,20 / 70,35 92,40 88,65 66,65
    50,30 35,37 30,50 35,63 50,70 65,63 70,50 65,37 50,30 / 50,20 50,2 / 50,80 50,98 / 20,50 2,50 / 80,50 98,50 / 28,28 15,15
    50,35 35,20 50,5 65,20 50,35 70,30 80,45 62,50 50,35 30,30 20,45 38,50 50,35 / 50,35 50,100 / 50,75 75,60
    5,20 5,20 5,80 5,80 95,80 95,80 95,20 95,20 5,20 / 5,20 50,55 50,55 95,20
    50,5 20,55 20,55 80,55 80,55 50,5 / 50,35 10,85 10,85 90,85 90,85 50,35 / 50,85 50,100
    30,15 15,30 30,45 45,30 30,15 / 40,40 90,90 / 78,78 90,66 / 68,68 78,58
    25,0 25,100 / 75,0 75,100 / 25,20 75,20 / 25,50 75,50 / 25,80 75,80
    10,10 10,10 10,90 10,90 90,90 90,90 90,10 90,10 10,10 / 50,10 50,90 / 10,50 90,50
    35,0 25,100 / 75,0 65,100 / 5,35 95,35 / 5,65 95,65
    50,0 50,100 / 8,25 92,75 / 8,75 92,25
    90,15 60,0 30,20 22,50 30,80 60,100 90,85 / 8,40 60,40 / 8,60 60,60
    15,45 15,80 40,100 80,80 80,80 80,45 80,45 80,100
    20,45 20,100 / 20,60 45,45 75,50
"""  # noqa: E501


def draw_digits(labels: Tensor, numbers: Tensor) -> Tensor:
    """Labels [n] and random numbers [n, NUMBERS] in [-1, 1) → images [n, 1, 28, 28] in 0 to 255."""
    first, count = (torch.tensor(values, device=labels.device) for values in _digit_ways())
    choice = (numbers[:, 0] + 1) / 2
    return _draw(first[labels] + (choice * count[labels]).long(), numbers, JITTER, "digit")


def draw_others(numbers: Tensor) -> Tensor:
    """Letters, signs and doodles. In half of the doodles the pen goes anywhere."""
    start, count = sum(_digit_ways()[1]), len(OTHER_WAYS.strip().splitlines())
    ways = start + ((numbers[:, 0] + 1) / 2 * count).long()
    wild = torch.where(numbers[:, 7] > 0.2, 0.6, JITTER)
    return _draw(ways, numbers, wild, "other")


def _draw(ways: Tensor, numbers: Tensor, jitter: float | Tensor, kind: str) -> Tensor:
    base, smooth, straight = (table.to(numbers.device) for table in _tables())
    _, rounding, narrow, slant, turn, pen, _, _ = numbers[:, :8].unbind(1)
    offsets = numbers[:, 8:].view(-1, POINTS, 2) * torch.as_tensor(jitter, device=numbers.device).view(-1, 1, 1)
    points = base[ways] + offsets
    curve = torch.lerp(straight[ways] @ points, smooth[ways] @ points, (1 + 0.9 * rounding).clamp(0, 1).view(-1, 1, 1))
    x, y = curve.unbind(2)
    narrowest, thickest = NARROWEST[kind], THICKEST[kind]
    x = (x - 0.5) * (narrowest + (1 - narrowest) * (narrow + 1) / 2).unsqueeze(1) - (y - 0.5) * (
        SLANT * slant**3
    ).unsqueeze(1)
    cos, sin = (TURN * turn).cos().unsqueeze(1), (TURN * turn).sin().unsqueeze(1)
    curve = torch.stack((x * cos - (y - 0.5) * sin, x * sin + (y - 0.5) * cos), 2)
    share = ((pen + 1) / 2) ** (1 if kind == "digit" else 2)
    radius = (THINNEST + (thickest - THINNEST) * share).view(-1, 1, 1)
    low, high = curve.amin(1, keepdim=True), curve.amax(1, keepdim=True)
    zoom = (BOX - 2 * radius) / (high - low).amax(2, keepdim=True).clamp_min(1e-3)
    curve = (curve - (low + high) / 2) * zoom + SIDE / 2
    return _paint(curve, radius)


def _paint(curve: Tensor, radius: Tensor) -> Tensor:
    """Points [n, m, 2] in pixels, radius [n, 1, 1] → images [n, 1, 28, 28]."""
    along = torch.arange(SIDE, device=curve.device) + 0.5
    pixels = torch.stack((along.repeat(SIDE), along.repeat_interleave(SIDE)), 1)
    squares = (pixels**2).sum(1).view(1, -1, 1) + (curve**2).sum(2).unsqueeze(1) - 2 * pixels @ curve.transpose(1, 2)
    distance = squares.amin(2).clamp_min(0).sqrt().view(-1, 1, SIDE, SIDE)
    return 255 * (radius.unsqueeze(1) + 0.5 - distance).clamp(0, 1)


@lru_cache
def _digit_ways() -> tuple[list[int], list[int]]:
    """The number of each digit's first way, and of its ways."""
    counts = [len(ways.strip().splitlines()) for ways in DIGIT_WAYS.values()]
    return [sum(counts[:digit]) for digit in DIGIT_WAYS], counts


@lru_cache
def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """For each way: its control points [POINTS, 2], and two matrices [SAMPLES, POINTS] that make a smooth line and a
    line with corners of them."""
    lines = [line for ways in (*DIGIT_WAYS.values(), OTHER_WAYS) for line in ways.strip().splitlines()]
    base, smooth, straight = zip(*(_parse(line) for line in lines), strict=True)
    return torch.stack(base), torch.stack(smooth), torch.stack(straight)


def _parse(line: str) -> tuple[Tensor, Tensor, Tensor]:
    strokes = [stroke.split() for stroke in line.split("/")]
    names = list(dict.fromkeys(point for stroke in strokes for point in stroke))  # a point that comes again is the same
    base = torch.zeros(POINTS, 2)
    base[: len(names)] = torch.tensor([[float(value) / 100 for value in name.split(",")] for name in names])
    pairs = [
        (stroke, number)
        for stroke in strokes
        for number in range(len(stroke) - 1)
        if stroke[number] != stroke[number + 1]
    ]
    position = {name: place for place, name in enumerate(names)}
    lengths = torch.tensor([float((base[position[s[n]]] - base[position[s[n + 1]]]).norm()) for s, n in pairs]).cumsum(
        0
    )
    smooth, straight = torch.zeros(2, SAMPLES, POINTS)
    for sample, place in enumerate(torch.linspace(0, float(lengths[-1]) - 1e-4, SAMPLES)):
        number = int(torch.searchsorted(lengths, place, right=True))
        start = float(lengths[number - 1]) if number else 0.0
        t = (float(place) - start) / (float(lengths[number]) - start)
        stroke, at = pairs[number]
        before, after = stroke[max(0, at - 1)], stroke[min(len(stroke) - 1, at + 2)]
        weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
        for name, weight in zip((before, stroke[at], stroke[at + 1], after), weights, strict=True):
            smooth[sample, position[name]] += weight / 2
        straight[sample, position[stroke[at]]] += 1 - t
        straight[sample, position[stroke[at + 1]]] += t
    return base, smooth, straight
