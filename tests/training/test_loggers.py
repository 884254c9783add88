"""Other trackers really run; a missing one is a line that says what to install."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_lit.errors import UserError
from mnist_lit.training.loggers import check_extras
from tests.conftest import Run, compose_config

Start = Callable[..., Run]


def test_mlflow_holds_the_runs_metrics_and_options(run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlruns.db'}")
    done = run("logger=mlflow")
    with sqlite3.connect(tmp_path / "mlruns.db") as database:
        metrics = dict(database.execute("select key, value from latest_metrics"))
        options = dict(database.execute("select key, value from params"))
    assert metrics["test_acc"] == pytest.approx(done.result["test_acc"], abs=1e-5)
    assert options["optimizer.lr"] == "0.001"


def test_wandb_writes_offline_into_each_runs_folder(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several in one process too, as a sweep makes them."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for name in ("a", "b"):
        assert len(list(run("logger=wandb", name=name).folder.glob("wandb/offline-run-*/*.wandb"))) == 1


@pytest.mark.parametrize("extra", ["mlflow", "wandb"])
def test_a_missing_extra_says_what_to_install(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"pip install -e '\.\[{extra}\]'"):
        check_extras(compose_config(f"logger={extra}").logger)
