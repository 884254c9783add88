"""MLflow and W&B record real runs. A missing package is an error that says what to install."""

import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import LambdaCallback

from mnist_lit.errors import UserError
from mnist_lit.training import loggers
from mnist_lit.training.progress import describe_mlflow
from mnist_lit.training.run import train
from tests.configs import check_config, compose_config
from tests.conftest import TINY, Run
from tests.wandb_server import serve_wandb

Start = Callable[..., Run]


@pytest.mark.slow
def test_mlflow_records_metrics_and_options(run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlruns.db'}")
    done = run("logger=mlflow")
    with sqlite3.connect(tmp_path / "mlruns.db") as database:
        metrics = dict(database.execute("select key, value from latest_metrics"))
        options = dict(database.execute("select key, value from params"))
    assert metrics["test_acc"] == pytest.approx(done.result["test_acc"], abs=1e-5)
    assert options["optimizer.lr"] == "0.001"


@pytest.mark.slow
def test_wandb_writes_offline_into_the_folder_of_each_run(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several runs in one process, as in a sweep, do not share a folder."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    entry = "+logger.own={_target_: lightning.pytorch.loggers.WandbLogger, project: me, offline: true}"
    for name, logger in (("a", "logger=wandb"), ("b", "logger=wandb"), ("c", entry), ("d", entry)):
        assert len(list(run(logger, name=name).folder.glob("wandb/offline-run-*/*.wandb"))) == 1, name


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:secret@host:5000", "http://host:5000"),
        ("postgresql://me:secret@host/runs", "mlflow ui --backend-store-uri postgresql://host/runs"),
        ("sqlite:///outputs/mlruns.db", "mlflow ui --backend-store-uri sqlite:///outputs/mlruns.db"),
    ],
)
def test_mlflow_is_shown_without_a_password(uri: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert describe_mlflow() == shown


@pytest.mark.parametrize("extra", ["mlflow", "wandb"])
def test_a_missing_package_is_an_error_that_says_what_to_install(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{extra}\]'"):
        check_config(f"logger={extra}")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("state", ["closed", "silent"])
@pytest.mark.parametrize(
    ("extra", "variable"), [("mlflow", "MLFLOW_TRACKING_URI"), ("wandb", "WANDB_BASE_URL")], ids=["mlflow", "wandb"]
)
def test_a_server_that_is_away_is_an_error_before_the_run_begins(
    extra: str, variable: str, state: str, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(extra)
    url = silent_server if state == "silent" else "http://127.0.0.1:9"
    assert loggers.ANSWER_LIMIT <= 10
    monkeypatch.setattr(loggers, "ANSWER_LIMIT", 0.5)
    monkeypatch.setenv(variable, url)
    monkeypatch.setenv("WANDB_MODE", "online")
    with pytest.raises(UserError, match=rf"logger\.{extra}=true: .*{url}: does not answer \(.*use "):
        check_config(*TINY, f"logger={extra}")


@pytest.mark.slow
def test_a_run_goes_on_when_mlflow_goes_away_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = ["--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{tmp_path / 'mlruns.db'}"]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *options], cwd=tmp_path)

    def stop_server(*_: object) -> None:
        server.terminate()
        server.wait()

    try:
        for _ in range(240):
            with suppress(OSError):
                urllib.request.urlopen(f"{url}/health", timeout=1)
                break
            time.sleep(0.5)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        (tmp_path / "run").mkdir()
        config = compose_config(*TINY, "logger=mlflow", "callbacks=none", "trainer.max_epochs=3")
        after_first_epoch = LambdaCallback(on_train_epoch_end=stop_server)
        result = train(config, tmp_path / "run", {}, callbacks=[after_first_epoch])
    finally:
        stop_server()
    assert result["status"] == "completed"
    warnings = [record.getMessage() for record in caplog.records if "MLflow does not answer" in record.getMessage()]
    assert len(warnings) == 1
    with sqlite3.connect(tmp_path / "mlruns.db") as database:
        assert database.execute("select count(*) from latest_metrics").fetchone()[0] > 0


@pytest.mark.slow
def test_a_run_goes_on_when_wandb_goes_away_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb").teardown()  # the session of an earlier run keeps its variables
    assert loggers.FINISH_LIMIT <= 30
    monkeypatch.setattr(loggers, "FINISH_LIMIT", 2)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    (tmp_path / "run").mkdir()
    with serve_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")

        def stop_server(*_: object) -> None:
            server.shutdown()
            server.server_close()

        after_first_epoch = LambdaCallback(on_train_epoch_end=stop_server)
        config = compose_config(*TINY, "logger=wandb", "callbacks=none", "trainer.max_epochs=3")
        result = train(config, tmp_path / "run", {}, callbacks=[after_first_epoch])
    assert result["status"] == "completed"
    assert "Use `wandb sync`" in capfd.readouterr().err
    assert list((tmp_path / "run").glob("wandb/run-*/*.wandb"))


def test_metrics_without_a_step_join_the_last_row(tmp_path: Path) -> None:
    logger = loggers.MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0}, 5)
    logger.log_metrics({"b": 2.0})  # as callbacks of Lightning may call it
    logger.save()
    assert (tmp_path / "metrics.csv").read_text(encoding="utf-8").split() == ["step,a,b", "5,1.0,2.0"]
