"""How far a job has come, read from its folder alone, whoever runs it. Imports no torch."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mnist_lit.durable import write_text
from mnist_lit.errors import UserError
from mnist_lit.training.resume import hold, recorded

FINISHED = ("completed", "failed", "pruned")


def finished(folder: Path) -> dict[str, Any] | None:
    """What result.json holds of a job that has ended by itself; None of any other."""
    result = recorded(folder)
    return result if result.get("status") in FINISHED else None


def alive(folder: Path) -> bool:
    """Whether another process works in the folder."""
    if not folder.exists():
        return False
    with suppress(UserError), hold(folder):
        return False
    return True


def record_failure(folder: Path, error: str) -> None:
    if not finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _record(folder, status="failed", error=error.removeprefix("error: "))


def reopen(folder: Path) -> None:
    """A job that failed or died is to be run again."""
    if recorded(folder).get("status") in ("failed", "running"):
        _record(folder, status="interrupted")


def record_start(folder: Path) -> None:
    """A run keeps its own record from its end on; until then this one tells a job that died from one never begun."""
    _record(folder, status="running")


def _record(folder: Path, **changes: str) -> None:
    write_text(folder / "result.json", json.dumps(recorded(folder) | changes, indent=2) + "\n")
