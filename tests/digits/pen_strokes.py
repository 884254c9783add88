"""Digits as pen strokes, defined by hand and changed at random. They use no MNIST image."""

import numpy as np

Stroke = np.ndarray  # [points, 2]: x to the right, y downward; the digit is in the range 0 to 1

# The common ways to write each digit. A way is a list of strokes. A stroke is a list of points on a smooth line, with x
# and y in hundredths.
WAYS: dict[int, list[list[str]]] = {
    0: [
        ["50,0 20,15 12,50 20,85 50,100 80,85 88,50 80,15 50,0"],
        ["60,3 30,10 15,55 40,98 80,75 82,30 55,2 42,6"],
    ],
    1: [
        ["52,0 50,50 48,100"],
        ["35,20 55,0", "55,0 54,50 53,100"],
        ["62,0 50,50 38,100"],
    ],
    2: [
        ["18,25 30,5 60,0 80,20 70,50 40,80 15,100", "15,100 85,98"],
        ["15,20 40,0 75,15 70,50 45,80 20,95 15,85 30,80 60,95 90,93"],
        ["20,15 50,0 75,15 68,45 20,100", "20,100 50,95 85,100"],
    ],
    3: [
        ["18,12 50,0 78,18 68,42 42,48", "42,48 75,56 82,80 55,100 15,90"],
        ["20,5 78,3", "78,3 45,42", "45,42 80,55 80,85 50,100 15,90"],
    ],
    4: [
        ["55,0 15,62", "15,62 90,60", "68,30 66,100"],
        ["25,2 20,50", "20,50 80,48", "75,0 72,50 70,100"],
        ["65,0 12,65", "12,65 88,65", "65,0 65,100"],
    ],
    5: [
        ["80,2 30,0", "30,0 22,45", "22,45 55,36 82,60 70,92 40,100 15,88"],
        ["28,5 26,42", "26,42 65,40 80,70 55,100 15,92", "28,5 85,0"],
    ],
    6: [
        ["68,0 35,25 18,65 35,98 70,95 82,70 60,50 30,60 20,75"],
        ["50,0 25,40 20,75 45,100 75,85 70,60 45,55 22,75"],
    ],
    7: [
        ["15,5 82,0", "82,0 55,45 40,100"],
        ["12,2 85,2", "85,2 35,100", "30,50 75,48"],
        ["15,15 18,2", "18,2 82,3", "82,3 50,50 45,100"],
    ],
    8: [
        ["75,15 50,0 25,17 40,42 70,62 75,88 50,100 25,85 35,58 65,40 75,15"],
        ["50,0 25,20 50,45 75,20 50,0", "50,45 18,72 50,100 82,72 50,45"],
    ],
    9: [
        ["78,20 50,0 22,25 42,48 75,30", "78,15 74,60 68,100"],
        ["75,10 45,2 20,28 45,50 75,25", "76,8 78,60 60,95 25,95"],
    ],
}


def write_digit(digit: int, rng: np.random.Generator, slant: float = 0.12, jitter: float = 0.025) -> list[Stroke]:
    """Return the strokes of a handwritten digit. The width, the slant and the jitter are random."""
    ways = WAYS[digit]
    angle, shear, narrow = rng.normal(0, 0.05), rng.uniform(-slant / 2, slant), rng.uniform(0.6, 0.95)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    strokes = []
    offsets: dict[str, np.ndarray] = {}  # strokes with a common point still meet at this point
    for points in ways[rng.integers(len(ways))]:
        moved = [
            np.array(point.split(","), float) / 100 + offsets.setdefault(point, rng.normal(0, jitter, 2))
            for point in points.split()
        ]
        line = smooth(np.array(moved)) - 0.5
        line[:, 0] = line[:, 0] * narrow - shear * line[:, 1]
        strokes.append(line @ turn + 0.5)
    return strokes


def smooth(points: np.ndarray, steps: int = 12) -> np.ndarray:
    """Return a Catmull-Rom spline through the points."""
    if len(points) == 2:
        return points[0] + np.linspace(0, 1, steps)[:, None] * (points[1] - points[0])
    ends = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = [
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.concatenate([*parts, points[-1:]])
