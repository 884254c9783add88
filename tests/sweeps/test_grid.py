"""Grids: every job is checked before the first, ends by itself, is told of at once, and is run again only if it has to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext

from mnist_lit.sweeps.plan import Job, plan_grid
from tests.conftest import PROJECT, Outcome

Command = Callable[..., Outcome]
QUICK = ["data=digits", "model=mlp_128_64", "trainer=cpu", "callbacks=none", "logger.tensorboard=false"]


def plan(*arguments: str) -> list[Job]:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", ["hydra.mode=MULTIRUN"], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        return plan_grid(config, context, arguments)


def results(sweep: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sweep.glob("*/result.json")}


def test_jobs_are_the_product_of_the_choices_each_in_a_folder_of_its_own() -> None:
    jobs = plan("data=digits", "model=cnn,mlp_500", "optimizer=adam,sgd", "seed=range(0,3)")
    assert [job.number for job in jobs] == list(range(12))
    assert jobs[0].label == "model=cnn optimizer=adam seed=0"
    assert jobs[11].overrides == ("data=digits", "model=mlp_500", "optimizer=sgd", "seed=2")
    assert jobs[11].folder == "11_mlp_500_digits"


BAD = [
    (["seed=range(0,0)"], "seed=range(0,0): there is nothing to choose from"),
    (["modle=cnn,mlp_500"], "modle"),
    (["optimizer.lr=0.1,-1"], "optimizer.lr=-1: should be greater than 0"),
    (["+optimizer.foo=1,2"], "optimizer.foo: there is no such option"),
    (["optimizer.lr=interval(0.1,1)"], "hydra/sweeper=optuna"),
    (["loss=cross_entropy,nll"], "model.output=log_softmax"),
    (["data=mnist,digits", "data.val_size=180", "data.fallback=null"], "data.fallback: there is no such option"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: " ".join(value))
def test_what_is_wrong_in_any_job_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(Exception, match=".") as caught:
        plan(*arguments)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["optimizer.lr=0.1,-1"], "error: optimizer.lr=-1"),
        (["hydra/launcher=submitit_local"], "pip install -e '.[submitit]'"),
        (["hydra/sweeper=basic"], "should be one of grid"),
        (["sweep.resume=nowhere"], "sweep.resume=nowhere: is not the folder of a grid"),
        (["hydra.sweep.subdir=same"], "hydra.sweep.subdir=same"),
    ],
    ids=lambda value: " ".join(value),
)
def test_nothing_is_left_behind(command: Command, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = command("-m", *QUICK, "seed=0,1", *arguments)
    assert done.code == 1
    assert named in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_options_of_a_sweep_are_refused_without_m(command: Command) -> None:
    done = command(*QUICK, "sweep.resume=x")
    assert done.code == 1
    assert "sweep.resume=x: is an option of many runs; add -m" in done.output


PLANTED = [*QUICK, "optimizer=sgd", "trainer.max_epochs=1", f"optimizer.lr={','.join(map(str, range(1, 24)))},1e9"]


def test_24_jobs_side_by_side_with_one_planted_failure_and_a_killed_worker(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = ["-m", *PLANTED, "optimizer.lr=0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,1e9", "hydra/launcher=joblib"]
    arguments += ["hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    assert arguments
