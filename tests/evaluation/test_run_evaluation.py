"""What `mnist-lit evaluate` prints for a run, and the calibration of probabilities."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.data.datasets import load_digits
from mnist_lit.errors import UserError
from mnist_lit.evaluation.run_evaluation import (
    apply_temperature,
    evaluate_ensemble,
    evaluate_run,
    expected_calibration_error,
    fit_temperature,
    recorded_config,
)
from mnist_lit.run_folder import best_checkpoint, read_result, write_result
from tests.conftest import Run
from tests.test_extending import write_idx


def draw_samples(samples: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from random probabilities, and these probabilities as a network with this calibration temperature
    would give them. Above 1 it is overconfident."""
    random = np.random.default_rng(0)
    true = apply_temperature(random.dirichlet(np.full(10, 0.3), samples), 1.0)
    labels = (true.cumsum(1) > random.random((samples, 1))).argmax(1)
    return apply_temperature(true, 1 / temperature), labels


def test_calibration_error_is_0_for_calibrated_probabilities_and_large_for_overconfident_ones() -> None:
    assert expected_calibration_error(*draw_samples(50_000, 1.0)) < 0.01
    certain = np.eye(10)[np.zeros(1000, dtype=int)]
    assert expected_calibration_error(certain, np.arange(1000) % 4) == pytest.approx(0.75)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_fitted_temperature_is_right_and_removes_the_calibration_error(temperature: float) -> None:
    probabilities, labels = draw_samples(50_000, temperature)
    found = fit_temperature(probabilities, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    assert expected_calibration_error(apply_temperature(probabilities, found), labels) < 0.01


def test_calibration_error_equals_its_definition() -> None:
    """Guo et al. (2017), equation 3."""
    probabilities, labels = draw_samples(10_000, 2.5)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(confidence[bins == b].sum() - correct[bins == b].sum()) for b in range(15)]
    assert expected_calibration_error(probabilities, labels) == pytest.approx(sum(gaps) / len(labels), abs=1e-5)


def test_evaluate_prints_the_metrics_of_each_digit_and_the_calibration(run: Callable[..., Run]) -> None:
    finished = run("callbacks=none")
    printed = CliRunner().invoke(app, ["evaluate", str(finished.folder)]).stdout
    rows = re.findall(r"^ +(\d) +(\d+) +([\d.]+)% +[\d.]+% +[\d.]+%$", printed, re.MULTILINE)
    assert [int(digit) for digit, _, _ in rows] == list(range(10))
    assert sum(int(images) for _, images, _ in rows) == 360
    right = sum(int(images) * float(recall) / 100 for _, images, recall in rows)
    assert right / 360 == pytest.approx(finished.result["test_acc"], abs=1e-3)
    assert re.search(r"calibration error  0\.\d+; 0\.\d+ at temperature \d", printed)
    assert re.search(r"latency +[\d.]+ ms for one image, [\d,]+ a second", printed)


@pytest.fixture
def moved_run(run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run from another computer: its data were in `there`, here they are in `here`."""
    monkeypatch.delenv("MNIST_LIT_DATA", raising=False)
    digits = load_digits(val_size=180, split_seed=0).train
    write_idx(tmp_path / "there" / "MNIST" / "raw", list(digits.images[:, 0].numpy()), digits.labels.numpy())
    files = {
        f"{part}_{kind}": {"name": f"{name}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"}
        for part, name in (("train", "train"), ("test", "t10k"))
        for kind in ("images", "labels")
    }
    listed = ",".join(f"{role}:{{name:{file['name']}}}" for role, file in files.items())
    mine = ["data=mnist", "data.name=mine", "data.val_size=100", f"data.root={tmp_path / 'there'}", "callbacks=none"]
    finished = run(*mine, f"data.files={{{listed}}}", "data.mirrors=[]")
    (tmp_path / "there").rename(tmp_path / "here")
    return finished


@pytest.mark.slow
def test_a_run_whose_data_moved_finds_them_by_the_option_and_the_variable(
    moved_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = (["evaluate", moved_run.folder], ["export", moved_run.folder, "--format", "pt2"])
    for command in commands:
        lost = CliRunner().invoke(app, list(map(str, command)))
        assert isinstance(lost.exception, UserError)
        assert "there/MNIST/raw" in str(lost.exception)
        found = CliRunner().invoke(app, [*map(str, command), "--data-root", str(tmp_path / "here")])
        assert found.exit_code == 0, found.output
    monkeypatch.setenv("MNIST_LIT_DATA", str(tmp_path / "here"))
    assert evaluate_run(moved_run.folder).test_acc == pytest.approx(moved_run.result["test_acc"], abs=1e-6)
    assert CliRunner().invoke(app, list(map(str, commands[1]))).exit_code == 0
    page = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["report", str(tmp_path), "--html", str(page)]).exit_code == 0


def test_the_data_of_a_run_come_from_where_it_had_them_if_they_are_there(
    moved_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.setenv("MNIST_LIT_DATA", str(tmp_path / "elsewhere"))
    config = recorded_config(moved_run.folder / "checkpoints" / "best.ckpt")
    assert config.data.options["root"] == str(tmp_path / "there")


def test_a_checkpoint_file_alone_is_enough(moved_run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "a" / "moved.ckpt"
    alone.parent.mkdir(parents=True)
    shutil.move(moved_run.folder / "checkpoints" / "best.ckpt", alone)
    evaluation = evaluate_run(alone, tmp_path / "here")
    assert evaluation.test_acc == pytest.approx(moved_run.result["test_acc"], abs=1e-6)
    exported = CliRunner().invoke(app, ["export", str(alone), "--format", "pt2", "--data-root", str(tmp_path / "here")])
    assert exported.exit_code == 0, exported.output
    assert [path.name for path in alone.parent.iterdir() if path != alone] == ["model.pt2"]


def test_a_data_root_for_data_without_a_folder_is_an_error(run: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-root .*: data=digits"):
        evaluate_run(run("callbacks=none").folder, tmp_path)


def test_several_runs_are_tested_together(run: Callable[..., Run]) -> None:
    """The answers are those that the runs stored, or those of the networks: a checkpoint has stored none."""
    runs = [run("callbacks=none", "trainer.max_epochs=1", f"seed={seed}", name=f"seed{seed}") for seed in range(3)]
    answers = [load_answers(it.folder) for it in runs]
    labels = answers[0]["label"]
    together = (sum(it["probabilities"] for it in answers).argmax(1) == labels).mean()
    outcome = evaluate_ensemble([it.folder for it in runs])
    assert outcome.accuracy == together
    assert outcome.accuracies == tuple(pytest.approx(it.result["test_acc"], abs=1e-6) for it in runs)
    checkpoints = [it.folder / "checkpoints" / "best.ckpt" for it in runs]
    assert evaluate_ensemble(checkpoints).accuracy == together
    printed = CliRunner().invoke(app, ["evaluate", *(str(it.folder) for it in runs)]).stdout
    assert f"{together:.2%}  together" in printed
    assert max(map(len, printed.splitlines()[-1:])) <= 80


def load_answers(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "test_predictions.npz") as file:
        return dict(file)


def test_runs_with_other_test_images_are_not_tested_together(run: Callable[..., Run]) -> None:
    small = run("callbacks=none", "trainer.max_epochs=1", "trainer.limit_test_batches=1", name="small")
    whole = run("callbacks=none", "trainer.max_epochs=1", name="whole")
    with pytest.raises(UserError, match=r"whole: was not tested on the same images as .*small"):
        evaluate_ensemble([small.folder, whole.folder])


def test_a_run_that_is_given_twice_is_refused(run: Callable[..., Run]) -> None:
    folder = run("callbacks=none", "trainer.max_epochs=1").folder
    with pytest.raises(UserError, match="is given twice"):
        evaluate_ensemble([folder, folder / "checkpoints" / "best.ckpt"])


def test_answers_of_a_run_that_goes_on_are_not_used(run: Callable[..., Run]) -> None:
    """Its best checkpoint may be newer than they are."""
    runs = [run("callbacks=none", "trainer.max_epochs=1", f"seed={seed}", name=f"{seed}") for seed in (0, 1)]
    folders = [it.folder for it in runs]
    together = evaluate_ensemble(folders)
    path = folders[0] / "test_predictions.npz"
    answers = load_answers(folders[0])
    np.savez(path, **answers | {"probabilities": np.roll(answers["probabilities"], 1, axis=1)})
    assert evaluate_ensemble(folders).accuracies[0] < 0.5, "answers of a completed run are used"
    write_result(folders[0], read_result(folders[0]) | {"status": "interrupted"})
    assert evaluate_ensemble(folders) == together


@pytest.mark.parametrize("loss", ["mse", "l1", "cross_entropy"])
def test_the_loss_is_that_of_the_run(loss: str, run: Callable[..., Run], tmp_path: Path) -> None:
    output = "logits" if loss == "cross_entropy" else "softmax"
    done = run(f"loss={loss}", f"model.output={output}", "trainer.max_epochs=1")
    alone = tmp_path / "alone.ckpt"
    shutil.copy(best_checkpoint(done.folder), alone)
    for place in (done.folder, alone):
        assert evaluate_run(place).test_loss == pytest.approx(done.result["test_loss"], abs=2e-6)
