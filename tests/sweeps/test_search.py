"""Searches: spaces, what counts as a trial, what is lost and tried again, and what a study leaves behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.config import SweepSection, parse_sweep
from mnist_lit.errors import UserError
from tests.conftest import PROJECT, Outcome
from tests.sweeps.test_grid import QUICK, read_until, results, start

optuna = pytest.importorskip("optuna")

from mnist_lit.sweeps import study as studies  # noqa: E402
from mnist_lit.sweeps.search import run_search  # noqa: E402
from mnist_lit.sweeps.space import Space, space_of  # noqa: E402

Command = Callable[..., Outcome]
SEARCH = ["-m", "hydra/sweeper=optuna", *QUICK]
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
DEFAULTS = {
    "resume": None, "trials": 3, "objectives": ["val_acc"], "sampler": "tpe", "pruner": "none", "workers": 1,
    "storage": None, "study": None,
}  # fmt: skip


def space(*arguments: str) -> Space:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return space_of(HydraContext(GlobalHydra.instance().config_loader(), Callbacks()), arguments)


def section(**options: Any) -> SweepSection:
    return parse_sweep(DEFAULTS | options)


def test_a_space_is_written_as_hydra_writes_sweeps() -> None:
    found = space("seed=1", "a=interval(1,4)", "b=int(interval(1,4))", LR, "d=range(1,10,2)", "e=[128],[64,32]")
    assert found.fixed == ("seed=1",)
    assert found.axes == {
        "a": optuna.distributions.FloatDistribution(1, 4),
        "b": optuna.distributions.IntDistribution(1, 4),
        "optimizer.lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
        "d": optuna.distributions.IntDistribution(1, 9, step=2),
        "e": optuna.distributions.CategoricalDistribution(["[128]", "[64,32]"]),
    }
    assert found.overrides({"a": 1.5, "e": "[64,32]"}) == ["seed=1", "a=1.5", "e=[64,32]"]
    assert space("a=1,2", "b=range(0.5,2,0.5)").every_point() == [
        {"a": a, "b": b} for a in ("1", "2") for b in (0.5, 1.0, 1.5)
    ]
    assert space("a=shuffle(range(1,10))").axes == space("a=range(1,10)").axes
    uneven = space("a=range(0.1,0.35,0.1)")
    assert [point["a"] <= 0.3 for point in uneven.every_point()] == [True] * 3


BAD = [
    ([], "there is nothing to search"),
    (["optimizer.lr=tag(log,interval(0,1))"], "optimizer.lr=tag(log,interval(0,1)):"),
    (["optimizer.lr=interval(-1,1)"], "optimizer.lr=-1.0: should be greater than 0"),
    (["optimizr.lr=interval(0.1,1)"], "optimizr"),
    (["seed=range(0,0)"], "nothing to choose from"),
    ([LR, "sweep.trials=0"], "sweep.trials=0: should be greater than or equal to 1"),
    ([LR, "sweep.sampler=grid"], "optimizer.lr is an interval"),
    (["optimizer=adam,sgd", "sweep.sampler=cmaes"], "name a range or an interval"),
    ([LR, "sweep.objectives=[test_acc]"], "sweep.objectives.0=test_acc"),
    ([LR, "sweep.objectives=[val_acc,params]", "sweep.pruner=median"], "sweep.pruner=median"),
    ([LR, "trainer=ddp", "sweep.pruner=median"], "ranks"),
    ([LR, "sweep.storage=postgresql://me:secret@127.0.0.1:9/none"], "sweep.study=NAME"),
    ([LR, "sweep.storage=postgresql://me:secret@127.0.0.1:9/none", "sweep.study=x"], "***@127.0.0.1:9/none: cannot"),
    ([LR, "sweep.storage=nonsense", "sweep.study=x"], "sweep.storage=URL: cannot be opened"),
    ([LR, "sweep.resume=nowhere"], "sweep.resume=nowhere: is not the folder of a search"),
    ([LR, "hydra/launcher=joblib"], "sweep.workers=N"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: " ".join(value))
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        options = [text for text in arguments if text.startswith(("sweep.", "hydra/"))]
        config = compose("train", ["hydra/sweeper=optuna", *options], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        with pytest.raises(SystemExit) as caught:
            run_search(config, context, [*QUICK, *(text for text in arguments if "hydra/" not in text)])
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_study_that_searches_something_else_is_refused(tmp_path: Path) -> None:
    studies.open_study(section(), space(LR, "seed=1"), tmp_path)
    for other, named in ((space(LR, "seed=1,2"), "seed"), (space(LR, "seed=2"), "fixed: the study has seed=1")):
        with pytest.raises(UserError, match="its study searches something else") as caught:
            studies.open_study(section(), other, tmp_path)
        assert named in str(caught.value)
    with pytest.raises(UserError, match="objectives: the study has val_acc, given is val_loss"):
        studies.open_study(section(objectives=["val_loss"]), space(LR, "seed=1"), tmp_path)
    studies.open_study(section(trials=50, sampler="random"), space(LR, "seed=1"), tmp_path)


def test_runs_of_one_study_are_not_taken_for_those_of_another(command: Command, tmp_path: Path) -> None:
    again = [*SEARCH, LR, "sweep.trials=1"]
    assert command(*again, "hydra.sweep.dir=sweep").code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for other in ("sweep.storage=journal", "sweep.study=other"):
        done = command(*again, other, "sweep.resume=sweep")
        assert done.code == 1
        assert f"only here: {other}" in done.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_a_sampler_stays_in_the_space_and_tries_one_point_after_the_other(tmp_path: Path, sampler: str) -> None:
    axes = space(LR, "a=int(interval(1,9))", "b=x,y").axes
    study = studies.open_study(section(sampler=sampler), space(LR, "a=int(interval(1,9))", "b=x,y"), tmp_path)
    for _ in range(12):
        trial = study.ask(axes)
        study.tell(trial, trial.params["optimizer.lr"] * trial.params["a"])
    rates = [trial.params["optimizer.lr"] for trial in study.trials]
    assert len(set(rates)) == 12
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert {trial.params["b"] for trial in study.trials} == {"x", "y"}


def states(study: Any) -> Counter[str]:
    return Counter(trial.state.name for trial in studies.counted(study))


@pytest.mark.parametrize("storage", [None, "journal"])
def test_a_trial_whose_process_died_is_tried_again_once(tmp_path: Path, storage: str | None) -> None:
    study = studies.open_study(section(storage=storage), space(LR), tmp_path)
    for _ in range(2):
        trial = study.ask(space(LR).axes)
        (tmp_path / "0").mkdir(exist_ok=True)
        trial.set_user_attr("folder", str(tmp_path / "0"))
        trial.set_user_attr("host", studies.HERE)
        trial.report(0.5, 1)
        assert studies.slot(trial) == 0
        assert studies.to_do(study, 3) == 2
        studies.retry_lost(study, local=True)
        assert {t.params["optimizer.lr"] for t in study.get_trials()} == {trial.params["optimizer.lr"]}
    assert states(study) == {"FAIL": 1}
    assert studies.to_do(study, 3) == 2


def test_a_trial_goes_on_however_often_it_was_interrupted(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"status": "interrupted"}')
    study = studies.open_study(section(), space(LR), tmp_path)
    for _ in range(3):
        trial = study.ask(space(LR).axes)
        trial.set_user_attr("folder", str(tmp_path))
        studies.retry_lost(study, local=True)
        assert states(study) == {"WAITING": 1}
    assert len({trial.params["optimizer.lr"] for trial in study.get_trials()}) == 1


LOCKED = "import sys, time; from mnist_lit.training.resume import hold; from pathlib import Path\n"
LOCKED += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_trial_that_lives_is_let_live(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    trial = study.ask(space(LR).axes)
    trial.set_user_attr("folder", str(tmp_path))
    trial.set_user_attr("host", studies.HERE)
    holder = subprocess.Popen([sys.executable, "-c", LOCKED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline()
    studies.retry_lost(study, local=True)
    assert states(study) == {"RUNNING": 1}
    holder.kill()
    holder.wait()
    studies.retry_lost(study, local=True)
    assert states(study) == {"WAITING": 1}


def test_a_trial_that_just_ended_is_left_to_its_process_to_tell(tmp_path: Path) -> None:
    """In a study that others on this machine work on; in one of its own nobody is there who could."""
    (tmp_path / "result.json").write_text('{"status": "completed"}')
    study = studies.open_study(section(), space(LR), tmp_path)
    trial = study.ask(space(LR).axes)
    trial.set_user_attr("folder", str(tmp_path))
    trial.set_user_attr("host", studies.HERE)
    studies.retry_lost(study, local=False)
    assert states(study) == {"RUNNING": 1}
    studies.retry_lost(study, local=True)
    assert states(study) == {"WAITING": 1}


def test_of_two_that_begin_the_last_trial_one_is_in_excess(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    first, second = study.ask(), study.ask()
    assert not studies.in_excess(study, first, 1)
    assert studies.in_excess(study, second, 1)
    second.set_user_attr("in_excess", True)
    assert len(studies.counted(study)) == 1


WILD = ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-3,1e8))", "data.batch_size=8", "trainer.max_epochs=3"]


def test_a_search_killed_and_resumed_with_two_workers_comes_to_its_total(tmp_path: Path) -> None:
    """Some of its trials explode; what had ended before the kill stays as it was."""
    search = [*SEARCH, *WILD, "sweep.trials=10"]
    process = start(tmp_path, *search, "hydra.sweep.dir=sweep")
    read_until(process, " 3/10 ")
    time.sleep(0.3)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/[012]_*/result.json")}
    done = start(tmp_path, *search, "sweep.resume=sweep", "sweep.workers=2")
    printed = done.communicate(timeout=150)[0]
    assert done.returncode == 0, printed
    assert "Traceback" not in printed
    trials = json.loads((tmp_path / "sweep" / "study.json").read_text())["trials"]
    assert len(trials) == 10
    assert {trial["state"] for trial in trials} == {"complete", "fail"}
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    runs = results(tmp_path / "sweep")
    assert Counter(run["status"] for run in runs.values()) == {
        "completed": sum(trial["state"] == "complete" for trial in trials),
        "failed": sum(trial["state"] == "fail" for trial in trials),
    }
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["values"][0])
    assert f"trial {best['number']} again  python train.py" in printed
    assert f"optimizer.lr={best['params']['optimizer.lr']}" in printed
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(tmp_path / "sweep"), "--html", str(page)]).exit_code == 0
    for words in ("Search", "best so far", "% of val_acc"):
        assert words in page.read_text()


TAKES_ALL = """
import sys
from pathlib import Path
from mnist_lit.sweeps.study import open_study
from tests.sweeps.test_search import LR, section, space
study = open_study(section(), space(LR), Path("."))
print("ready", flush=True)
sys.stdin.readline()
while (trial := study.ask()).number < 100:
    print(trial.number)
"""


def test_of_many_workers_none_takes_anothers_trial(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    for _ in range(100):
        study.enqueue_trial({})
    workers = [
        subprocess.Popen([sys.executable, "-c", TAKES_ALL], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)},
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]  # fmt: skip
    for worker in workers:
        read_until(worker, "ready")
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(taken) == list(range(100))


@pytest.mark.parametrize("pruner", ["median", "halving", "none"])
def test_a_pruner_ends_what_is_far_behind(tmp_path: Path, pruner: str) -> None:
    study = studies.open_study(section(pruner=pruner), space(LR), tmp_path)
    for _ in range(8):
        good = study.ask(space(LR).axes)
        for epoch in range(1, 5):
            good.report(0.9, epoch)
            assert not good.should_prune()
        study.tell(good, 0.9)
    hopeless = study.ask(space(LR).axes)
    hopeless.report(0.1, 1)
    assert hopeless.should_prune() == (pruner != "none")


def test_a_hopeless_run_is_pruned_and_a_grid_is_walked_once(command: Command, tmp_path: Path) -> None:
    rates = "optimizer.lr=0.1,0.05,0.2,0.15,0.12,1e-9"
    done = command(
        *SEARCH, "optimizer=sgd", rates, "trainer.max_epochs=4", "sweep.sampler=grid", "sweep.pruner=median",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.code == 0, done.output
    trials = json.loads((tmp_path / "sweep" / "study.json").read_text())["trials"]
    assert [trial["params"]["optimizer.lr"] for trial in trials] == ["0.1", "0.05", "0.2", "0.15", "0.12", "1e-09"]
    assert trials[-1]["state"] == "pruned"
    pruned = json.loads((tmp_path / "sweep" / "5_lr=1e-09" / "result.json").read_text())
    assert pruned["status"] == "pruned"
    assert "test_acc" not in pruned
    assert "PRUNED: val_acc" in done.output


def test_of_several_objectives_the_compromises_are_kept(command: Command, tmp_path: Path) -> None:
    done = command(
        *SEARCH, "model=mlp_500", "model.hidden=[2],[100]", "optimizer.lr=0.01", "trainer.max_epochs=3",
        "sweep.objectives=[val_acc,params]", "sweep.sampler=grid", "sweep.storage=journal", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.code == 0, done.output
    assert "none of them is beaten in everything" in done.output
    assert done.output.count("again  python train.py") == 2
    assert (tmp_path / "sweep" / "study.journal").exists()


def test_ranks_of_a_trial_train_its_own_parameters(command: Command, tmp_path: Path) -> None:
    ranks = [
        "trainer=ddp",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "model=mlp_500",
        "model.hidden=[16],[32]",
    ]
    done = command("-m", "hydra/sweeper=optuna", "data=digits", *ranks, "sweep.sampler=grid", "hydra.sweep.dir=sweep")
    assert done.code == 0, done.output
    runs = results(tmp_path / "sweep")
    assert [runs[name]["params"] for name in ("0_hidden=16", "1_hidden=32")] == [784 * 16 + 186, 784 * 32 + 362]


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


@pytest.fixture
def postgresql() -> Iterator[str]:
    """A server of its own on loopback; its URL."""
    pytest.importorskip("psycopg")
    programs = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if user:  # PostgreSQL does not let root run it
            shutil.chown(folder, "postgres", "postgres")
        initdb, server = Path(programs), str(Path(programs).with_name("postgres"))
        data = f"{folder}/data"
        subprocess.run([*user, initdb, "-D", data, "-U", "me", "-A", "trust"], check=True, capture_output=True, cwd="/")
        options = ["-p", port, "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        probe.close()
        running = subprocess.Popen([*user, server, "-D", data, *options], stderr=subprocess.PIPE, text=True, cwd="/")
        assert running.stderr
        while "ready to accept connections" not in (line := running.stderr.readline()):
            assert line, "the server did not start"
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)


def test_two_machines_work_on_one_study_by_the_same_command(tmp_path: Path, postgresql: str) -> None:
    search = [
        *SEARCH,
        LR,
        "trainer.max_epochs=1",
        "sweep.trials=6",
        f"sweep.storage={postgresql}",
        "sweep.study=shared",
    ]
    machines = [start(tmp_path, *search, f"hydra.sweep.dir=machine{number}") for number in range(2)]
    printed = [machine.communicate(timeout=100)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    runs = [results(tmp_path / f"machine{number}") for number in range(2)]
    assert len(runs[0]) + len(runs[1]) == 6
    assert not set(runs[0]) & set(runs[1])
    study = optuna.load_study(study_name="shared", storage=postgresql)
    assert states(study) == {"COMPLETE": 6}
