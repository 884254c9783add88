"""How long a call takes."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], times: int) -> float:
    """Of so many calls, after a first one that does not count."""
    taken = []
    for _ in range(times + 1):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])
