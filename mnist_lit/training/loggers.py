"""The loggers of a run: the switches of `logger`, and entries from outside the package."""

import csv
import io
import logging
import os
import re
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger, MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.atomic_io import write_text
from mnist_lit.build import build
from mnist_lit.config import LoggerSection, TrainConfig
from mnist_lit.config.options import compared_options
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.errors import UserError, describe_error
from mnist_lit.run_folder import METRICS

ANSWER_LIMIT = 10  # seconds for the answer of a server
FINISH_LIMIT = 30  # seconds for W&B to send the rest at the end of a run
log = logging.getLogger(__name__)


def check_servers(switches: LoggerSection) -> None:
    """Raises UserError if a server that the run would log to does not answer."""
    if switches.mlflow:
        shown = hide_password(mlflow_uri())
        check_answers(mlflow_uri(), f"logger.mlflow=true: MLFLOW_TRACKING_URI={shown}", "logger.mlflow=false")
    if switches.wandb and os.environ.get("WANDB_MODE", "offline") not in ("offline", "disabled", "dryrun"):
        url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
        check_answers(url, f"logger.wandb=true: {url}", "WANDB_MODE=offline")


@cache
def check_answers(url: str, option: str, instead: str) -> None:
    """Any answer is enough. A URL without a computer in it is a file."""
    place = urlsplit(url)
    try:
        if place.scheme in ("http", "https"):
            urllib.request.urlopen(url, timeout=ANSWER_LIMIT).close()
        elif place.hostname and place.port:
            socket.create_connection((place.hostname, place.port), ANSWER_LIMIT).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # MLflow and W&B have their own certificates
            raise UserError(f"{option}: does not answer ({reason}). Start the server, or use {instead}") from error


def build_loggers(
    config: TrainConfig, folder: Path, data: DigitDataModule, resumed_at: int | None = None
) -> list[Logger]:
    """TensorBoard and metrics.csv continue where the run continues: what they hold of steps after `resumed_at` will be
    logged again. The trackers begin a new run at each resumption; they are given the run's options."""
    from mnist_lit.dashboards.tensorboard_logger import TensorBoard

    switches, options = config.logger, compared_options(config.model_dump(by_alias=True))
    loggers: list[Logger] = []
    if switches.tensorboard:
        samples_per_step = data.batch_size * data.accumulate_grad_batches
        tensorboard = TensorBoard(folder, samples_per_step, data.samples_per_epoch)
        if resumed_at is not None:
            tensorboard.forget_after(resumed_at)
        loggers.append(tensorboard)
    if switches.csv:
        metrics = MetricsCSV(folder / METRICS)
        if resumed_at is not None:
            metrics.forget_after(resumed_at or -1)
        loggers.append(metrics)
    if switches.mlflow:
        # By default MLflow tries for minutes, and the run waits for it.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(ANSWER_LIMIT))
        tags = dict.fromkeys(config.tags, "true")
        loggers.append(MLflow("mnist-lit", run_name=folder.name, tracking_uri=mlflow_uri(), tags=tags))
        _begin(loggers[-1], options, "logger.mlflow=true")
    if switches.wandb:
        from lightning.pytorch.loggers import WandbLogger
        from wandb import Settings

        offline = os.environ.get("WANDB_MODE", "offline") == "offline"
        limits = Settings(init_timeout=ANSWER_LIMIT, finish_timeout=FINISH_LIMIT)
        about: dict[str, Any] = {"name": folder.name, "tags": config.tags, "save_dir": folder, "settings": limits}
        loggers.append(WandbLogger(project="mnist-lit", offline=offline, **about))
        _begin(loggers[-1], options, "logger.wandb=true")
    return loggers + [build(entry, "logger", save_dir=folder) for entry in config.logger.entries.values()]


def _begin(tracker: Logger, options: dict[str, Any], switch: str) -> None:
    try:
        tracker.log_hyperparams(options)
    except Exception as error:  # a missing key, a wrong address: each package raises other types
        raise UserError(f"{switch}: {describe_error(error)}") from error


def mlflow_uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///outputs/mlruns.db")


def hide_password(uri: str) -> str:
    return re.sub("//[^@/]*@", "//", uri)


@contextmanager
def finishing_trackers() -> Iterator[None]:
    """End the run of W&B that has begun inside the block. It belongs to the process, so the next job of a sweep would
    continue it. A notebook's own run goes on."""
    before = _wandb_run()
    try:
        yield
    finally:
        if (run := _wandb_run()) is not None and run is not before:
            sys.modules["wandb"].finish()


def _wandb_run() -> object:
    return getattr(sys.modules.get("wandb"), "run", None)


class MLflow(MLFlowLogger):
    """If the server goes away during a run, the run says so once and goes on without it."""

    has_begun = False
    is_lost = False

    def log_hyperparams(self, params: dict[str, Any]) -> None:  # type: ignore[override]
        self._send(super().log_hyperparams, params)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._send(super().log_metrics, metrics, step)

    def finalize(self, status: str = "success") -> None:
        self._send(super().finalize, status)

    def _send(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.is_lost:
            return
        try:
            call(*arguments)
            self.has_begun = True
        except Exception as error:  # MLflow, requests and databases each raise another type
            if not self.has_begun:
                raise
            self.is_lost = True
            reason = describe_error(error).splitlines()[0]
            log.warning(f"MLflow does not answer ({reason}). The run goes on without it. Its own files are complete")


class MetricsCSV(Logger):
    """metrics.csv: one row for each step at which something was logged.

    Unlike Lightning's CSVLogger it writes to the path given, and continues a file that is already there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: dict[int, dict[str, Any]] = {}
        if path.exists():
            with path.open(newline="", encoding="utf-8") as stream:
                self._rows = {int(row["step"]): {k: v for k, v in row.items() if v} for row in csv.DictReader(stream)}

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = max(self._rows, default=0) if step is None else step
        self._rows.setdefault(step, {"step": step}).update(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """They are in config.yaml."""

    def forget_after(self, step: int) -> None:
        """Drop the rows of the steps that a resumed run makes again."""
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
