"""Searches: spaces, trials that count, trials that are retried, and the files that a study leaves."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
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
from tests.configs import PROJECT, compose_config
from tests.conftest import Outcome
from tests.sweeps.test_grid import QUICK, read_until, results, start

optuna = pytest.importorskip("optuna")

from mnist_lit.sweeps import search_study as studies  # noqa: E402
from mnist_lit.sweeps.search import cut_journal, find_cause, run_search  # noqa: E402
from mnist_lit.sweeps.search_space import SearchSpace, parse_space  # noqa: E402
from mnist_lit.sweeps.sweep_folder import dump_configs  # noqa: E402

Command = Callable[..., Outcome]
SEARCH = ["-m", "hydra/sweeper=optuna", *QUICK]
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
DEFAULTS = {
    "resume": None, "trials": 3, "objectives": ["val_acc"], "sampler": "tpe", "pruner": "none", "workers": 1,
    "storage": None, "study": None,
}  # fmt: skip


def space(*arguments: str) -> SearchSpace:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return parse_space(HydraContext(GlobalHydra.instance().config_loader(), Callbacks()), arguments)


def section(**options: Any) -> SweepSection:
    return parse_sweep(DEFAULTS | options)


def test_hydra_sweeps_become_distributions() -> None:
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
    assert space("a=shuffle(x,y,z,u,v,w)").axes == space("a=shuffle(x,y,z,u,v,w)").axes
    uneven = space("a=range(0.1,0.35,0.1)")
    assert [point["a"] <= 0.3 for point in uneven.every_point()] == [True] * 3


BAD = [
    ([], "there is nothing to search"),
    (["optimizer.lr=tag(log,interval(0,1))"], "optimizer.lr=tag(log,interval(0,1)):"),
    (["optimizer.lr=interval(-1,1)"], "optimizer.lr=-1.0: should be greater than 0"),
    (["optimizr.lr=interval(0.1,1)"], "optimizr"),
    (["seed=range(0,0)"], "no values to choose from"),
    ([LR, "sweep.trials=0"], "sweep.trials=0: should be at least 1"),
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
    ([LR, "hydra.sweep.subdir=x"], "hydra.sweep.subdir=x: several trials would use this folder"),
    (
        ["data.batch_size=interval(16,128)"],
        "data.batch_size=16.0: should be a whole number; write int(interval(16,128))",
    ),
    (["data.batch_size=tag(log,interval(16,128))"], "write int(tag(log,interval(16,128)))"),
    (["data.batch_size=tag(log,range(16,129,16))"], "a logarithmic range has no step"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: " ".join(value))
def test_bad_input_is_one_clear_error_and_leaves_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        options = [text for text in arguments if text.startswith(("sweep.", "hydra"))]
        config = compose("train", ["hydra/sweeper=optuna", *options], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        with pytest.raises(SystemExit) as caught:
            run_search(config, context, [*QUICK, *(text for text in arguments if "hydra" not in text)])
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_study_with_another_space_is_refused(tmp_path: Path) -> None:
    studies.open_study(section(), space(LR, "seed=1"), tmp_path)
    for other, named in (
        (space(LR, "seed=1,2"), "seed"),
        (space(LR, "seed=2"), "fixed: the study has seed=1, this command has seed=2"),
    ):
        with pytest.raises(UserError, match="its study searches something else") as caught:
            studies.open_study(section(), other, tmp_path)
        assert named in str(caught.value)
    with pytest.raises(UserError, match="objectives: the study has val_acc, this command has val_loss"):
        studies.open_study(section(objectives=["val_loss"]), space(LR, "seed=1"), tmp_path)
    studies.open_study(section(trials=50, sampler="random"), space(LR, "seed=1"), tmp_path)


def test_a_study_is_the_same_with_its_options_in_another_order(tmp_path: Path) -> None:
    options = [LR, "model=cnn,mlp_500", "seed=1", "trainer.max_epochs=2"]
    configs = dump_configs(compose_config(f"model={name}") for name in ("cnn", "mlp_500"))
    studies.open_study(section(), replace(space(*options), configs=configs), tmp_path)
    turned = replace(space(*options[::-1]), configs=configs[::-1])
    studies.open_study(section(), turned, tmp_path)
    with pytest.raises(UserError, match="the files of the config have changed since it began"):
        studies.open_study(section(), replace(turned, configs=configs[:1] * 2), tmp_path)


@pytest.mark.slow
def test_a_folder_is_refused_for_another_study(command: Command, tmp_path: Path) -> None:
    again = [*SEARCH, LR, "sweep.trials=1"]
    assert command(*again, "hydra.sweep.dir=sweep").code == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for other in ("sweep.storage=journal", "sweep.study=other"):
        done = command(*again, other, "sweep.resume=sweep")
        assert done.code == 1
        assert f"only in this command: {other}" in done.output
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "random"])
def test_a_sampler_stays_in_the_space_and_repeats_no_point(tmp_path: Path, sampler: str) -> None:
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
    return Counter(trial.state.name for trial in studies.counted_trials(study))


@pytest.mark.parametrize("storage", [None, "journal"])
def test_a_trial_whose_process_died_is_retried_once(tmp_path: Path, storage: str | None) -> None:
    study = studies.open_study(section(storage=storage), space(LR), tmp_path)
    for _ in range(2):
        trial = study.ask(space(LR).axes)
        (tmp_path / "0").mkdir(exist_ok=True)
        trial.set_user_attr("folder", str(tmp_path / "0"))
        trial.set_user_attr("host", studies.HOST)
        trial.report(0.5, 1)
        assert studies.folder_number(trial) == 0
        assert studies.count_missing(study, 3) == 2
        studies.requeue_lost_trials(study, tmp_path, local=True)
        assert {t.params["optimizer.lr"] for t in study.get_trials()} == {trial.params["optimizer.lr"]}
    assert states(study) == {"FAIL": 1}
    assert studies.count_missing(study, 3) == 2


def test_an_interrupted_trial_is_queued_again_every_time(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"status": "interrupted"}', encoding="utf-8")
    study = studies.open_study(section(), space(LR), tmp_path)
    for _ in range(3):
        trial = study.ask(space(LR).axes)
        trial.set_user_attr("folder", str(tmp_path))
        studies.requeue_lost_trials(study, tmp_path, local=True)
        assert states(study) == {"WAITING": 1}
    (tmp_path / "result.json").write_text('{"status": "running"}', encoding="utf-8")
    for state in ("WAITING", "FAIL"):
        trial = study.ask(space(LR).axes)
        studies.requeue_lost_trials(study, tmp_path, local=True)
        assert states(study) == {state: 1}, "interruptions do not count as deaths"
    assert len({trial.params["optimizer.lr"] for trial in study.get_trials()}) == 1


def test_a_computer_that_slept_finds_its_trials_running(tmp_path: Path) -> None:
    """The trials of one machine have locks. They need no heartbeats, which stop while a computer sleeps."""
    study = studies.open_study(section(), space(LR), tmp_path)
    study.ask(space(LR).axes)
    assert study._storage.get_heartbeat_interval() is None  # type: ignore[attr-defined]


def test_a_heartbeat_without_an_answer_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise optuna.exceptions.StorageInternalError("the server closed the connection")

    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", fail)
    studies.Database(f"sqlite:///{tmp_path / 'study.db'}").record_heartbeat(0)


def test_a_line_of_the_journal_that_was_cut_off_is_removed(tmp_path: Path) -> None:
    """As by a full disk."""
    journal = section(storage="journal")
    study = studies.open_study(journal, space(LR), tmp_path)
    study.tell(study.ask(space(LR).axes), 0.5)
    path = tmp_path / "study.journal"
    content = path.read_bytes()
    path.write_bytes(content + content.splitlines()[-1][:7])
    cut_journal(path)
    assert path.read_bytes() == content
    again = studies.open_study(journal, space(LR), tmp_path)
    again.tell(again.ask(space(LR).axes), 0.6)
    assert len(studies.open_study(journal, space(LR), tmp_path).trials) == 2
    cut_journal(tmp_path / "none")


HOLDS_LOCK = "import sys, time; from mnist_lit.run_folder import lock_folder; from pathlib import Path\n"
HOLDS_LOCK += "with lock_folder(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"


@pytest.mark.slow
def test_a_running_trial_is_not_queued_again(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    trial = study.ask(space(LR).axes)
    trial.set_user_attr("folder", str(tmp_path))
    trial.set_user_attr("host", studies.HOST)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDS_LOCK, str(tmp_path)], stdout=subprocess.PIPE, encoding="utf-8"
    )
    assert holder.stdout
    assert holder.stdout.readline()
    studies.requeue_lost_trials(study, tmp_path, local=True)
    assert states(study) == {"RUNNING": 1}
    holder.kill()
    holder.wait()
    studies.requeue_lost_trials(study, tmp_path, local=True)
    assert states(study) == {"WAITING": 1}


def test_a_trial_that_just_ended_is_reported_by_its_own_sweep(tmp_path: Path) -> None:
    """In a shared study, two sweeps of one machine do not queue each other's trials."""
    folder = tmp_path / "sweep" / "0"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"status": "completed"}', encoding="utf-8")
    study = studies.open_study(section(), space(LR), tmp_path)
    trial = study.ask(space(LR).axes)
    trial.set_user_attr("folder", str(folder))
    trial.set_user_attr("host", studies.HOST)
    studies.requeue_lost_trials(study, tmp_path / "another sweep", local=False)
    assert states(study) == {"RUNNING": 1}
    studies.requeue_lost_trials(study, tmp_path / "sweep", local=False)
    assert states(study) == {"WAITING": 1}


def test_the_second_of_two_last_trials_is_surplus(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    first, second = study.ask(), study.ask()
    assert not studies.is_surplus(study, first, 1)
    assert studies.is_surplus(study, second, 1)
    second.set_user_attr("surplus", True)
    assert len(studies.counted_trials(study)) == 1


EXPLODING = ["optimizer=sgd", "optimizer.lr=tag(log,interval(1e-3,1e8))", "data.batch_size=8", "trainer.max_epochs=3"]


@pytest.mark.slow
def test_a_killed_search_reaches_its_total_when_two_workers_resume_it(tmp_path: Path) -> None:
    """Some trials explode. Trials that ended before the kill stay as they are."""
    search = [*SEARCH, *EXPLODING, "sweep.trials=10"]
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
    trials = json.loads((tmp_path / "sweep" / "study.json").read_text(encoding="utf-8"))["trials"]
    assert len(trials) == 10
    assert {trial["state"] for trial in trials} == {"complete", "fail"}
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    runs = results(tmp_path / "sweep")
    assert Counter(run["status"] for run in runs.values()) == {
        "completed": sum(trial["state"] == "complete" for trial in trials),
        "failed": sum(trial["state"] == "fail" for trial in trials),
    }
    best = max((trial for trial in trials if trial["state"] == "complete"), key=lambda trial: trial["values"][0])
    assert f"repeat trial {best['number']}  python {PROJECT}/train.py" in printed
    assert f"optimizer.lr={best['params']['optimizer.lr']}" in printed
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(tmp_path / "sweep"), "--html", str(page)]).exit_code == 0
    for words in ("optimizer.lr", "What matters for val_acc", "failed"):
        assert words in page.read_text(encoding="utf-8")


TAKE_TRIALS = """
import sys
from pathlib import Path
from mnist_lit.sweeps.search_study import open_study
from tests.sweeps.test_search import LR, section, space
study = open_study(section(), space(LR), Path("."))
print("ready", flush=True)
sys.stdin.readline()
while (trial := study.ask()).number < 100:
    print(trial.number)
"""


@pytest.mark.slow
def test_no_two_workers_take_the_same_trial(tmp_path: Path) -> None:
    study = studies.open_study(section(), space(LR), tmp_path)
    for _ in range(100):
        study.enqueue_trial({})
    command, environment = [sys.executable, "-c", TAKE_TRIALS], os.environ | {"PYTHONPATH": str(PROJECT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) for _ in range(4)]
    for worker in workers:
        read_until(worker, "ready")
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    taken = [int(number) for worker in workers for number in worker.communicate()[0].split()]
    assert sorted(taken) == list(range(100))


@pytest.mark.parametrize("pruner", ["median", "halving", "none"])
def test_a_pruner_stops_a_bad_trial(tmp_path: Path, pruner: str) -> None:
    study = studies.open_study(section(pruner=pruner), space(LR), tmp_path)
    for _ in range(8):
        good = study.ask(space(LR).axes)
        for epoch in range(1, 5):
            good.report(0.9, epoch)
            assert not good.should_prune()
        study.tell(good, 0.9)
    bad = study.ask(space(LR).axes)
    bad.report(0.1, 1)
    assert bad.should_prune() == (pruner != "none")


@pytest.mark.slow
def test_a_bad_run_is_pruned_and_a_grid_is_run_once(command: Command, tmp_path: Path) -> None:
    rates = "optimizer.lr=0.1,0.05,0.2,0.15,0.12,1e-9"
    done = command(
        *SEARCH, "optimizer=sgd", rates, "trainer.max_epochs=4", "sweep.sampler=grid", "sweep.pruner=median",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.code == 0, done.output
    trials = json.loads((tmp_path / "sweep" / "study.json").read_text(encoding="utf-8"))["trials"]
    assert [trial["params"]["optimizer.lr"] for trial in trials] == ["0.1", "0.05", "0.2", "0.15", "0.12", "1e-09"]
    assert trials[-1]["state"] == "pruned"
    pruned = json.loads((tmp_path / "sweep" / "5_lr-1e-09" / "result.json").read_text(encoding="utf-8"))
    assert pruned["status"] == "pruned"
    assert "test_acc" not in pruned
    assert "PRUNED: val_acc" in done.output


@pytest.mark.slow
def test_a_search_with_two_objectives_prints_the_best_compromises(train_py: Command, tmp_path: Path) -> None:
    done = train_py(
        *SEARCH, "model=mlp_500", "model.hidden=[2],[100]", "optimizer.lr=0.01", "trainer.max_epochs=3",
        "sweep.objectives=[val_acc,params]", "sweep.sampler=grid", "sweep.storage=journal", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.code == 0, done.output
    assert "No other trial is better in all objectives" in done.output
    assert done.output.count(f"  python {PROJECT}/train.py") == 2
    assert (tmp_path / "sweep" / "study.journal").exists()


@pytest.mark.slow
def test_ranks_train_with_the_parameters_of_their_trial(command: Command, tmp_path: Path) -> None:
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
    assert [runs[name]["params"] for name in ("0_hidden-16", "1_hidden-32")] == [784 * 16 + 186, 784 * 32 + 362]


@pytest.mark.slow
def test_a_database_that_is_away_is_an_error_before_the_search_begins(script: Command, tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    assert studies.ANSWER_LIMIT <= 10
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "ANSWER_LIMIT", 2)  # the server accepts connections and never answers
        storage = f"sweep.storage=postgresql://me@127.0.0.1:{silent.getsockname()[1]}/x"
        done = script(*SEARCH, LR, storage, "sweep.study=away")
    assert done.code == 1
    assert f"error: {storage}: cannot be opened" in done.output
    assert "timeout" in done.output
    assert not (tmp_path / "outputs").exists()


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


class PostgreSQL:
    """A new server on loopback, which can be stopped and started again."""

    def __init__(self, programs: Path, folder: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.user:  # PostgreSQL does not let root run it
            shutil.chown(folder, "postgres", "postgres")
        data = f"{folder}/data"
        initdb = [*self.user, programs / "initdb", "-D", data, "-U", "me", "-A", "trust"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/")
        options = ["-p", port, "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self.command = [*self.user, programs / "postgres", "-D", data, *options]
        self.url = f"postgresql://me@127.0.0.1:{port}/postgres"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE, encoding="utf-8", cwd="/")
        assert self.process.stderr
        while "ready to accept connections" not in (line := self.process.stderr.readline()):
            assert line, "the server did not start"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)


@pytest.fixture
def postgresql() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg")
    initdb = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory() as folder:
        server = PostgreSQL(Path(initdb).resolve().parent, folder)
        yield server
        server.stop()


@pytest.mark.slow
def test_two_machines_share_one_study(tmp_path: Path, postgresql: PostgreSQL) -> None:
    search = [
        *SEARCH,
        LR,
        "trainer.max_epochs=1",
        "sweep.trials=6",
        f"sweep.storage={postgresql.url}",
        "sweep.study=shared",
    ]
    machines = [start(tmp_path, *search, f"hydra.sweep.dir=machine{number}") for number in range(2)]
    printed = [machine.communicate(timeout=100)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], printed
    runs = [results(tmp_path / f"machine{number}") for number in range(2)]
    assert len(runs[0]) + len(runs[1]) == 6
    assert not set(runs[0]) & set(runs[1])
    study = optuna.load_study(study_name="shared", storage=postgresql.url)
    assert states(study) == {"COMPLETE": 6}


@pytest.mark.slow
def test_a_database_that_goes_away_ends_the_search_and_it_continues_later(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    search = [*SEARCH, LR, "sweep.trials=4", "sweep.workers=2", "sweep.study=away", "hydra.sweep.dir=sweep"]
    process = start(tmp_path, *search, f"sweep.storage={postgresql.url}")
    while not list(tmp_path.glob("sweep/0_*/config.yaml")):
        assert process.poll() is None, process.communicate()[0]
    postgresql.stop()
    printed = process.communicate(timeout=100)[0]
    assert process.returncode == 1, printed
    assert "Traceback" not in printed
    assert printed.count("error: ") == 1, printed
    command = re.findall(r"Continue with: (.*)", printed)[-1]
    postgresql.start()
    resumed = start(tmp_path, *shlex.split(command)[2:])
    printed = resumed.communicate(timeout=200)[0]
    assert resumed.returncode == 0, printed
    assert "Traceback" not in printed
    study = optuna.load_study(study_name="away", storage=postgresql.url)
    assert sum(trial.state.name == "COMPLETE" for trial in study.get_trials(deepcopy=False)) == 4


@pytest.mark.slow
def test_a_database_that_restarts_during_a_trial_is_used_again(tmp_path: Path, postgresql: PostgreSQL) -> None:
    search = [*SEARCH, LR, "sweep.trials=2", "trainer.max_epochs=60", "sweep.study=back", "hydra.sweep.dir=sweep"]
    process = start(tmp_path, *search, f"sweep.storage={postgresql.url}")
    while not list(tmp_path.glob("sweep/0_*/config.yaml")):
        assert process.poll() is None, process.communicate()[0]
    postgresql.stop()
    postgresql.start()
    printed = process.communicate(timeout=200)[0]
    assert process.returncode == 0, printed
    assert "Traceback" not in printed
    study = optuna.load_study(study_name="back", storage=postgresql.url)
    assert states(study) == {"COMPLETE": 2}


@pytest.mark.parametrize("lost", [UnboundLocalError, AssertionError])
def test_the_error_of_the_storage_is_found_behind_that_of_optuna(lost: type[Exception]) -> None:
    storage = optuna.exceptions.StorageInternalError("gone")
    error = lost("Should not reach.")
    error.__context__ = ValueError("while it handled this one")
    error.__context__.__context__ = storage
    assert find_cause(error, studies.LOST_STORAGE) is storage
    assert find_cause(lost("of another kind"), studies.LOST_STORAGE) is None
