"""metrics.csv: one row for each step at which something was logged."""

import csv
import io
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.durable import write_text


class MetricsCSV(Logger):
    """Unlike Lightning's CSVLogger it writes to the path given, and goes on with a file that is already there."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="") as stream:
                self._rows = {int(row["step"]): {k: v for k, v in row.items() if v} for row in csv.DictReader(stream)}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self._rows.setdefault(step, {"step": step}).update(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in config.yaml."""

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that a resumed run will make again."""
        self._rows = {at: row for at, row in self._rows.items() if at <= step}

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys(column for row in self._rows.values() for column in row))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=columns)
        writer.writeheader()
        writer.writerows(self._rows[step] for step in sorted(self._rows))
        write_text(self.path, text.getvalue())

    def finalize(self, status: str) -> None:
        with nullcontext() if status == "success" else suppress(OSError):  # the first failure is the one to report
            self.save()
