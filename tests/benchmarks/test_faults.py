"""A sample of `python -m benchmarks faults`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configs import PROJECT


@pytest.mark.slow
def test_a_file_operation_that_fails_loses_no_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "faults", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["faults"]["rows"]
    assert [row["measured"] for row in rows] == [0, 0, 0], done.stdout
    assert all("completed" in row["detail"] for row in rows)
