"""Runs compared: what differs, how many test images tell them apart, and what the seeds allow to say."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.errors import UserError
from mnist_lit.reports.comparison import compare_runs
from mnist_lit.reports.run_reader import find_runs, read_run
from tests.reports.written_runs import write_predictions, write_run


def test_compare_counts_discordant_images_and_considers_the_seeds(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b", lr=0.1)
    right = np.ones(1000, dtype=bool)
    write_predictions(one, right & (np.arange(1000) >= 10))
    write_predictions(two, right & (np.arange(1000) < 940))
    found = compare_runs([read_run(one), read_run(two)])
    (pair,) = found.pairs
    assert (pair.only_first, pair.only_second) == (60, 10)
    assert found.options == {"optimizer.lr": (0.001, 0.1)}
    assert pair.accuracy_difference == pytest.approx(0.05)
    assert found.seed_std is None
    assert "Run several seeds to see" in found.verdict(pair)
    for seed, test_acc in ((1, 0.80), (2, 0.99)):
        write_run(tmp_path / f"s{seed}", seed=seed, test_acc=test_acc)
    with_seeds = compare_runs([read_run(one), read_run(two)], find_runs(tmp_path)[0])
    assert with_seeds.seed_std == pytest.approx(np.std([0.9, 0.8, 0.99], ddof=1))
    assert with_seeds.degrees_of_freedom == 2
    assert "the seed may be the reason" in with_seeds.verdict(with_seeds.pairs[0])


def test_the_variation_between_two_seeds_is_weak_evidence(tmp_path: Path) -> None:
    """With one degree of freedom the 95 % quantile of Student's t is 12.7. It is not 1.96."""
    one, two = write_run(tmp_path / "a", test_acc=0.94), write_run(tmp_path / "b", lr=0.1, test_acc=0.99)
    for folder, right in ((one, 940), (two, 990)):
        write_predictions(folder, np.arange(1000) < right)

    def verdict() -> str:
        found = compare_runs([read_run(one), read_run(two)], find_runs(tmp_path)[0])
        return found.verdict(found.pairs[0])

    write_run(tmp_path / "s", seed=1, test_acc=0.95)
    assert "the seed may be the reason" in verdict()
    for seed in range(2, 9):
        write_run(tmp_path / f"s{seed}", seed=seed, test_acc=0.94 + 0.01 * (seed % 2))
    assert "two seeds of one configuration differ less" in verdict()


def test_compare_rejects_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    failed = write_run(tmp_path / "c", status="failed")
    write_predictions(one, np.ones(10, dtype=bool))
    with pytest.raises(UserError, match="no predictions"):
        compare_runs([read_run(one), read_run(two)])
    write_predictions(two, np.ones(20, dtype=bool))
    with pytest.raises(UserError, match="same images"):
        compare_runs([read_run(one), read_run(two)])
    with pytest.raises(UserError, match="failed"):
        compare_runs([read_run(one), read_run(failed)])
    with pytest.raises(UserError, match="twice"):
        compare_runs([read_run(one), read_run(one)])


def test_of_several_runs_the_best_by_validation_is_compared_with_each_other_one(tmp_path: Path) -> None:
    rights, names = {"a": 950, "b": 990, "c": 985, "d": 600}, "abcd"
    for number, (name, right) in enumerate(rights.items()):
        write_run(tmp_path / name, lr=10.0**-number, val_acc=right / 1000)
        write_predictions(tmp_path / name, np.arange(1000) < right)
    found = compare_runs([read_run(tmp_path / name) for name in names])
    assert [(pair.first, pair.second) for pair in found.pairs] == [(1, 0), (1, 2), (1, 3)]
    assert found.options == {"optimizer.lr": (1.0, 0.1, 0.01, 0.001)}
    near = compare_runs([read_run(tmp_path / "b"), read_run(tmp_path / "c")]).pairs[0].p
    assert found.pairs[1].p == pytest.approx(near), "the largest of the p-values is not adjusted"
    far = compare_runs([read_run(tmp_path / "b"), read_run(tmp_path / "a")]).pairs[0].p
    assert found.pairs[0].p == pytest.approx(2 * far)


def test_the_command_compares_six_runs_in_80_columns(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / f"run{number}", lr=number + 1)) for number in range(6)]
    for number, folder in enumerate(folders):
        write_predictions(Path(folder), np.arange(100) >= number)
    printed = CliRunner().invoke(app, ["compare", *folders], env={"COLUMNS": "80"}, catch_exceptions=False).stdout
    for number, folder in enumerate(folders, 1):
        assert f"run {number}: {folder}".replace("/", "") in printed.replace("\n", "").replace("/", "")
    tables = [line for line in printed.splitlines() if line[:1] in "┏┃│└"]
    assert max(map(len, tables)) <= 80
    assert "Holm" in printed
    with pytest.raises(UserError, match="at least two runs"):
        CliRunner().invoke(app, ["compare", folders[0]], catch_exceptions=False)


def test_the_words_of_lessons_and_where_the_data_are_make_no_difference(tmp_path: Path) -> None:
    for number, (point, root) in enumerate((("All train.", "data"), ("Some train.", "elsewhere"))):
        config = {"lesson": {"shows": "x", "point": point}, "data": {"name": "mnist", "batch_size": 64, "root": root}}
        write_predictions(write_run(tmp_path / str(number), lr=0.1 + number, config=config), np.arange(10) < 9)
    compared = compare_runs([read_run(tmp_path / "0"), read_run(tmp_path / "1")])
    assert compared.options == {"optimizer.lr": (0.1, 1.1)}


def test_one_batch_differs_from_all_batches(tmp_path: Path) -> None:
    for number, limit in enumerate((1, 1.0)):
        trainer = {"limit_train_batches": limit}
        write_predictions(write_run(tmp_path / str(number), config={"trainer": trainer}), np.arange(10) < 9)
    compared = compare_runs([read_run(tmp_path / "0"), read_run(tmp_path / "1")])
    assert list(compared.options) == ["trainer.limit_train_batches"]
