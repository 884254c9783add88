"""Which cases of a parametrized test are quick."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_except(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Marks all cases as slow, except those in `quick`. A tuple holds the values of several parameters."""
    cases = list(cases)
    assert all(case in cases for case in quick)
    return [case if case in quick else mark_slow(case) for case in cases]


def mark_slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
