"""What people type on the command line is read as it is meant."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from mnist_lit import hydra_app
from mnist_lit.data.files import FileSet
from mnist_lit.hydra_app import CODE_OVERRIDE, prepare_arguments
from tests.conftest import TINY, Outcome
from tests.sweeps.test_grid import QUICK, results
from tests.test_commands import FOLDERS, read_override

Command = Callable[..., Outcome]
STRANGE = ["outputs/sw/0_seed=0,optimizer=adam", "a=b", "[1]", "a,b", "{a: 1}", "f(x)", "range(1,3)", "it's (2)", "007"]
NUMBERS = ["2024_01_01", "1e5", "7", "true", "nan", "0.10"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without runs whose names the values could be a part of."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("folder", [*STRANGE, *NUMBERS, *(it for it in FOLDERS if it != "null" and "{seed" not in it)])
def test_a_path_needs_no_quotes_for_hydra(folder: str) -> None:
    for key in ("resume", "sweep.resume", "hydra.run.dir", "hydra.sweep.dir", "+hydra.run.dir", "init_from"):
        (text,) = prepare_arguments([f"{key}={folder}"])
        assert str(read_override(text)) == os.path.expanduser(folder)
        assert prepare_arguments([text]) == [text], "quotes that are there already stay"


@pytest.mark.parametrize("text", NUMBERS)
def test_a_name_is_no_number(text: str) -> None:
    for key in ("sweep.study", "data.root", "data.folder"):
        assert read_override(*prepare_arguments([f"{key}={text}"])) == text


def test_paths_may_have_references_and_be_null() -> None:
    as_meant = ["resume=null", "hydra.run.dir=out/${now:%Y}", "resume=", "data.root=a,b", "~resume", "optimizer.lr=1,2"]
    assert prepare_arguments(as_meant) == as_meant
    (text,) = prepare_arguments(["hydra.run.dir=out/lr=${seed}"])
    (override,) = OverridesParser.create().parse_overrides([text])
    assert override.value() == "out/lr=${seed}"


READ = [
    (["a=1", "-m", "b=2", "--config-name", "x", "c=3"], ["-m", "--config-name", "x", "a=1", "b=2", "c=3"]),
    (["a=1", "--multirun", "--config-dir=y", "b=2"], ["--multirun", "--config-dir=y", "a=1", "b=2"]),
    (["a=1", "--cfg", "job", "-i", "b=2"], ["--cfg", "job", "--info=all", "a=1", "b=2"]),
    (["a=1", "--info", "defaults-tree", "b=2"], ["--info=defaults-tree", "a=1", "b=2"]),
    (["+optimizer={foreach: true}"], ["+optimizer={foreach: true}"]),
    (["+experiment=cnn", "++model=cnn", "+callbacks.x.y=1"], ["experiment=cnn", "model=cnn", "+callbacks.x.y=1"]),
    (['model.hidden="[300,100]"'], ["model.hidden=[300,100]"]),
    (["'model.hidden=\"[300,100]\"'"], ["model.hidden=[300,100]"]),
    (["model.hidden='[300,100]','[5]'"], ["model.hidden=[300,100],[5]"]),
    (["'model.hidden=[300,", "100]'", "seed=1"], ["model.hidden=[300, 100]", "seed=1"]),
    (['"seed=1"', "a='b c'"], ["seed=1", "a='b c'"]),
    (["a=${oc.env:RATE}", "b=[${oc.env:RATE},1]", "c=${oc.env:WORD}"], ["a=0.5", "b=[0.5,1]", "c=${oc.env:WORD}"]),
    (["a=${oc.env:RATE,1}", "b=x${oc.env:RATE}"], ["a=0.5", "b=x${oc.env:RATE}"]),
    (["-m", "optimizer=sgd,adam", "optimizer.lr=0.1"], ["-m", "optimizer=sgd,adam", "optimizer.lr=choice(0.1)"]),
    (["-m", "optimizer=sgd", "optimizer.lr=0.1"], ["-m", "optimizer=sgd", "optimizer.lr=0.1"]),
    (["sweep=optimizers", "optimizer.lr=0.1"], ["sweep=optimizers", "optimizer.lr=choice(0.1)"]),
    (["sweep=optimizers", "optimizer.lr=0.1", "hydra.mode=RUN"],) * 2,
    (["--cfg", "job", "sweep=optimizers", "optimizer.lr=0.1"],) * 2,
    (["-cd", "x", "sweep=optimizers", "optimizer.lr=1"], ["-cd", "x", "sweep=optimizers", "optimizer.lr=choice(1)"]),
    (["-m", "experiment=cnn,best", "model.x=1", "a=1"], ["-m", "experiment=cnn,best", "model.x=choice(1)", "a=1"]),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "read"), READ, ids=lambda words: " ".join(words))
def test_arguments_are_read_as_they_are_meant(
    typed: list[str], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATE", "0.5")
    monkeypatch.setenv("WORD", "adam")
    assert prepare_arguments(typed) == read
    assert prepare_arguments(read) == read


def test_a_run_reads_them(script: Command, tmp_path: Path) -> None:
    folder = "runs/0_seed=0,optimizer=[adam]"
    done = script(
        *TINY, "'model.hidden=\"[30,20]\"'", "optimizer.lr=${oc.env:LR}", "+scheduler=none", "data.batch_size=32",
        f"hydra.run.dir={folder}", "trainer.max_epochs=1", "+model=mlp_500", LR="0.02",
    )  # fmt: skip
    assert done.code == 0, done.output
    config = yaml.safe_load((tmp_path / folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["optimizer"]["lr"] == 0.02
    assert config["model"]["hidden"] == [30, 20]
    longer = script(f"resume={folder}", "trainer.max_epochs=2")
    assert longer.code == 0, longer.output
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_fixed_option_of_a_swept_group_holds_for_each_job(script: Command, tmp_path: Path) -> None:
    sweep = [*QUICK, "optimizer=sgd,rmsprop", "-m", "optimizer.momentum=0.5", "trainer.max_epochs=1"]
    done = script(*sweep, "hydra.sweep.dir=2024_01_01")
    assert done.code == 0, done.output
    assert sorted(results(tmp_path / "2024_01_01")) == ["0_optimizer-sgd", "1_optimizer-rmsprop"]
    for path in tmp_path.glob("2024_01_01/*/config.yaml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["optimizer"]["momentum"] == 0.5
    wrong = script(*QUICK, "-m", "optimizer=sgd,adam", "optimizer.momentum=0.5")
    assert wrong.code == 1
    assert "optimizer.momentum: there is no such option" in wrong.output
    again = script(*sweep, "sweep.resume=2024_01_01")
    assert "2 jobs, 2 already completed" in again.output


@pytest.mark.slow
def test_a_fixed_option_of_a_searched_group_holds_for_each_trial(script: Command, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    done = script(
        "hydra/sweeper=optuna", *QUICK, "optimizer=sgd,rmsprop", "--multirun", "optimizer.momentum=0.5",
        "trainer.max_epochs=1", "sweep.sampler=grid", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.code == 0, done.output
    assert sorted(results(tmp_path / "sweep")) == ["0_optimizer-sgd", "1_optimizer-rmsprop"]


@pytest.mark.slow
def test_excluded_keys_are_not_in_the_names_of_folders(script: Command, tmp_path: Path) -> None:
    naming = "hydra.job.config.override_dirname"
    sweep = ["-m", *QUICK, "seed=0,1", "optimizer=sgd,adam", "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    done = script(*sweep, f"{naming}.exclude_keys=[seed]")
    assert done.code == 0, done.output
    names = ["0_optimizer-sgd", "1_optimizer-adam", "2_optimizer-sgd", "3_optimizer-adam"]
    assert sorted(results(tmp_path / "sweep")) == names
    other = script(*sweep[:-1], f"{naming}.kv_sep=:")
    assert other.code == 1
    assert "only exclude_keys can be set" in other.output


@pytest.mark.slow
def test_an_empty_variable_is_one_that_is_not_set(script: Command, tmp_path: Path, mnist_root: str) -> None:
    raw = FileSet(root=tmp_path / "data").path
    raw.parent.mkdir(parents=True)
    raw.symlink_to(FileSet(root=mnist_root).path)
    empty = {"MNIST_LIT_DATA": "", "MNIST_LIT_MIRRORS": "", "MLFLOW_TRACKING_URI": "", "WANDB_MODE": ""}
    done = script(*QUICK[1:], "trainer.max_epochs=1", "data.val_size=59900", "data.batch_size=100", **empty)
    assert done.code == 0, done.output
    config = yaml.safe_load((done.folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["root"] == "data"
    assert config["data"]["mirrors"] is None


@pytest.mark.parametrize("name", ["MNIST_LIT_DATA", "MLFLOW_TRACKING_URI", "WANDB_MODE", "OMP_NUM_THREADS"])
def test_only_empty_variables_are_dropped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # hides all GPUs
    monkeypatch.setenv("MNIST_LIT_MIRRORS", "http://here/")
    hydra_app.drop_empty_variables()
    assert name not in os.environ
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["MNIST_LIT_MIRRORS"] == "http://here/"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["model=cnn", "--info"], ["model=cnn", "--info", "defaults-tree"]], ids=" ".join)
def test_info_follows_an_override(arguments: list[str], script: Callable[..., Outcome]) -> None:
    done = script(*arguments)
    assert done.code == 0, done.output
    assert "model: cnn" in done.output or "model/cnn" in done.output


@pytest.mark.parametrize("text", ["hydra.run.dir=runs/my_target_x", "data.name=_target_", "hydra.sweep.dir=a_target_"])
def test_a_path_may_contain_the_word_target(text: str) -> None:
    assert not CODE_OVERRIDE.search(text)


def test_a_lesson_of_ones_own_with_a_mistake_is_left_to_hydra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text("a: [", encoding="utf-8")
    monkeypatch.setattr("mnist_lit.hydra_app.CONFIG_FOLDER", tmp_path)
    assert prepare_arguments(["sweep=mine", "optimizer.lr=1"]) == ["sweep=mine", "optimizer.lr=1"]
