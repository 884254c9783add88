"""Runs for the tests of the reports."""

from pathlib import Path

import pytest

from tests.reports.written_runs import write_run


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for seed, (test_acc, val_acc) in enumerate([(0.90, 0.91), (0.92, 0.93), (0.94, 0.95)]):
        write_run(tmp_path / f"a{seed}", seed=seed, test_acc=test_acc, val_acc=val_acc)
    write_run(tmp_path / "b", lr=0.1, test_acc=0.99, val_acc=0.5)
    write_run(tmp_path / "c", status="failed", error="RuntimeError: out of memory")
    return tmp_path
