"""The structure of the code: unique file names, no import cycles, no training code in inference, a short call path."""

from collections import Counter

import pytest

from benchmarks.house import GOALS, find_call_path, find_import_cycle, find_training_imports, list_code_files
from tests.configs import PROJECT

RELEASED_RUN = PROJECT / "tests" / "runs_of_earlier_releases" / "0.2.0"


def test_there_are_few_files_and_no_name_is_used_twice() -> None:
    names = Counter(path.name for path in list_code_files())
    assert len(list_code_files()) <= GOALS["code files"]
    assert [name for name, count in names.items() if count > 1] == []


def test_there_is_no_import_cycle() -> None:
    assert find_import_cycle() == []


@pytest.mark.slow
def test_predict_export_and_demo_import_no_training_code() -> None:
    assert find_training_imports(RELEASED_RUN) == []


@pytest.mark.slow
def test_the_call_path_to_the_first_step_has_few_files() -> None:
    call_path = find_call_path()
    assert "mnist_lit/training/step.py" in call_path
    assert len(call_path) <= GOALS["files on the call path"]
