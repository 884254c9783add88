"""The rows, columns and groups of a leaderboard, and the selection of runs."""

import math
import os
import time
from pathlib import Path

import pytest

from mnist_lit.config.options import comparable
from mnist_lit.config.schema import MNIST_MODULE
from mnist_lit.errors import UserError
from mnist_lit.reports.html_page import render_page
from mnist_lit.reports.leaderboard import build_leaderboard, build_leaderboards, sort_rows
from mnist_lit.reports.run_reader import filter_runs, find_runs, parse_since
from tests.reports.written_runs import ADAM, write_grid, write_run, write_search


def test_a_row_groups_seeds_and_has_mean_deviation_and_interval(outputs: Path) -> None:
    row = build_leaderboard(find_runs(outputs)[0]).rows[0]
    assert row.n == 3
    assert row.mean("test_acc") == pytest.approx(0.92)
    assert row.std("test_acc") == pytest.approx(0.02)
    half = 4.302653 * 0.02 / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert row.interval == pytest.approx((0.92 - half, 0.92 + half), abs=1e-6)


def test_the_test_accuracy_does_not_decide_the_rank(outputs: Path) -> None:
    first, second = build_leaderboard(find_runs(outputs)[0]).rows
    assert second.mean("test_acc") > first.mean("test_acc")
    assert first.mean("val_acc") > second.mean("val_acc")


def test_columns_are_the_options_that_differ(outputs: Path) -> None:
    assert list(build_leaderboard(find_runs(outputs)[0]).columns) == ["optimizer.lr"]


def test_a_choice_replaces_the_options_that_it_explains(tmp_path: Path) -> None:
    for number, (name, lr) in enumerate([("adam", 0.001), ("sgd", 0.01), ("sgd", 0.1)]):
        config = {"optimizer": {"_target_": f"torch.optim.{name}", "lr": lr}}
        write_run(tmp_path / str(number), config=config, choices={"model": "cnn", "optimizer": name})
    assert list(build_leaderboard(find_runs(tmp_path)[0]).columns) == ["optimizer", "optimizer.lr"]


def test_paths_and_logging_options_do_not_make_a_new_row(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config={"data": {"name": "mnist", "root": "/a"}, "logger": {"csv": True}})
    write_run(tmp_path / "b", config={"data": {"name": "mnist", "root": "/b"}, "logger": {"csv": False}}, seed=1)
    write_run(tmp_path / "c", config={"data": {"name": "mnist"}, "checkpoint": {"every_seconds": 7}}, seed=2)
    assert [row.n for row in build_leaderboard(find_runs(tmp_path)[0]).rows] == [3]


def test_the_figures_of_an_article_are_shown_only_for_its_own_preset(tmp_path: Path) -> None:
    reference = {"reference": {"loop_acc": 0.65, "published": "0.9"}}
    preset = ["experiment=cnn_softmax", "seed=1", "data.root=elsewhere", "trainer=cpu", "logger.csv=true"]
    for name, changes in (("preset", []), ("changed", ["model.output=logits"]), ("other", ["optimizer=adam"])):
        write_run(tmp_path / name, overrides=[*preset, *changes], config=reference, lr=0.01 * (1 + len(name)))
    rows = {row.runs[0].folder.name: row for row in build_leaderboard(find_runs(tmp_path)[0]).rows}
    assert {name: (row.reference, row.published) for name, row in rows.items()} == {
        "preset": (0.65, "0.9"),
        "changed": (None, None),
        "other": (None, None),
    }


def test_a_job_that_failed_does_not_hide_the_option_that_was_swept(tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "grid", 0.01)
    write_run(grid / "1_lr-10", lr=10.0, status="failed", error="diverged")
    (board,) = build_leaderboards(find_runs(tmp_path)[0])
    assert list(board.columns) == ["optimizer.lr"]


def test_rows_are_divided_by_the_precision_that_was_used(tmp_path: Path) -> None:
    """`auto` is not the same on all machines."""
    for seed, (chosen, used) in enumerate((("auto", "32-true"), ("32-true", "32-true"), ("auto", "bf16-mixed"))):
        write_run(tmp_path / str(seed), seed=seed, precision=used, config={"trainer": {"precision": chosen}})
    board = build_leaderboard(find_runs(tmp_path)[0])
    seeds = {row.options["trainer.precision"]: row.n for row in board.rows}
    assert seeds == {"32-true": 2, "bf16-mixed": 1}
    assert "trainer.precision" in board.columns


def test_a_repeated_seed_counts_once(tmp_path: Path) -> None:
    for minute, (name, test_acc) in enumerate((("b", 0.90), ("a", 0.91))):
        result = write_run(tmp_path / name, test_acc=test_acc) / "result.json"
        os.utime(result, (60 * minute, 60 * minute))
    (row,) = build_leaderboard(find_runs(tmp_path)[0]).rows
    assert (row.n, row.values("test_acc"), row.std("test_acc")) == (1, [0.91], None)
    assert row.interval[1] - row.interval[0] > 0.01


def titles(folder: Path) -> list[str]:
    return [board.title for board in build_leaderboards(find_runs(folder)[0])]


def test_sweeps_presets_single_runs_data_sets_and_limited_runs_have_leaderboards_of_their_own(tmp_path: Path) -> None:
    write_run(tmp_path / "single", started="2026-01-01T10:00:00")
    write_run(tmp_path / "preset", choices={"experiment": "cnn"}, started="2026-01-02T10:00:00")
    write_run(tmp_path / "digits", config={"data": {"name": "digits"}}, started="2026-01-03T10:00:00")
    write_run(tmp_path / "limited", limited={"trainer.limit_train_batches": 3}, started="2026-01-05T10:00:00")
    for name, started in (("0_lr-1", "2026-01-04T10:00:00"), ("1_lr-2", "2026-01-04T11:00:00")):
        write_run(tmp_path / "lesson" / name, choices={"sweep": "losses"}, started=started)
    (tmp_path / "lesson" / "sweep.yaml").write_text("grid: []\n", encoding="utf-8")
    assert titles(tmp_path) == [
        "sweep=losses lesson on mnist", "Single runs on digits", "Presets on mnist", "Single runs on mnist",
        "Single runs on mnist, limited to a part of the images",
    ]  # fmt: skip
    assert titles(write_search(tmp_path / "other")) == ["Search other on mnist"]


def test_a_job_that_failed_before_it_had_a_config_is_listed_with_its_sweep(tmp_path: Path) -> None:
    write_grid(tmp_path / "grid", 0.1)
    early = write_run(tmp_path / "grid" / "1_lr-x", status="failed", error="no such file")
    (early / "config.yaml").unlink()
    (board,) = build_leaderboards(find_runs(tmp_path)[0])
    assert [run.folder.name for run in board.unfinished] == ["1_lr-x"]


def test_rows_are_sorted_by_results_and_by_options(tmp_path: Path) -> None:
    for number, (test_acc, seconds, lr) in enumerate([(0.9, 3.0, 0.1), (0.8, 1.0, 0.001), (0.95, 2.0, 0.01)]):
        write_run(tmp_path / str(number), test_acc=test_acc, fit_seconds=seconds, lr=lr)
    boards = build_leaderboards(find_runs(tmp_path)[0])

    def order(name: str) -> list[str]:
        return [row.runs[0].folder.name for row in sort_rows(boards, name)[0].rows]

    assert order("test_acc") == ["2", "0", "1"]
    assert order("fit_seconds") == ["1", "2", "0"]
    assert order("lr") == order("optimizer.lr") == ["1", "2", "0"]
    with pytest.raises(UserError, match=r"--sort optimizer\.lrr: .* did you mean optimizer\.lr\?"):
        sort_rows(boards, "optimizer.lrr")


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["model=mlp"], "b"), (["model!=mlp"], "ac"), (["lr<0.1"], "a"), (["optimizer.lr>=1e-1"], "bc"),
        (["val_acc>0.9"], "c"), (["tags=lecture"], "c"), (["status=failed"], "b"), (["lr>0.01", "model=cnn"], "c"),
        (["lr=0.10"], "bc"), (["model = cnn"], "ac"), (["params<=1e1"], "abc"), (["params>9.5e0"], "abc"),
        (["steps_per_execution>4"], "b"), (["started>=2026-11-20"], "c"), (["started<2026-11-20"], "ab"),
    ],
)  # fmt: skip
def test_runs_are_filtered_by_results_choices_options_and_tags(
    tmp_path: Path, conditions: list[str], names: str
) -> None:
    early, late = "2026-11-19T08:00:00", "2026-11-20T08:00:00"
    write_run(tmp_path / "a", started=early, config={"trainer": {"steps_per_execution": "auto"}})
    trainer = {"steps_per_execution": 8}
    write_run(
        tmp_path / "b", choices={"model": "mlp"}, lr=0.1, status="failed", started=early, config={"trainer": trainer}
    )
    write_run(tmp_path / "c", val_acc=0.95, lr=0.1, tags=["lecture", "short"], started=late)
    kept = filter_runs(find_runs(tmp_path)[0], conditions)
    assert {run.folder.name for run in kept} == set(names)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("model", "should be NAME=VALUE"),
        ("modle=cnn", "did you mean model"),
        ("size=1", "is one of data.test.size, data.train.size; write the whole name"),
    ],
)
def test_a_filter_that_names_nothing_is_an_error(tmp_path: Path, condition: str, message: str) -> None:
    write_run(tmp_path / "a", config={"data": {"name": "mnist", "train": {"size": 1}, "test": {"size": 1}}})
    with pytest.raises(UserError, match=message):
        filter_runs(find_runs(tmp_path)[0], [condition])


def test_since_takes_a_duration_a_date_and_a_time() -> None:
    assert parse_since("2d") == pytest.approx(time.time() - 2 * 86400, abs=5)
    assert parse_since("3h") == pytest.approx(time.time() - 3 * 3600, abs=5)
    assert parse_since("2026-11-20T14:30") - parse_since("2026-11-20") == pytest.approx(14.5 * 3600)
    for text in ("yesterday", "3", "99999999999d"):
        with pytest.raises(UserError, match=f"--since {text}: should be like 3d"):
            parse_since(text)


def test_a_sweep_of_many_options_without_a_completed_job_has_a_board(tmp_path: Path) -> None:
    options = ("batch_size", "val_size", "train_size", "split_seed", "label_noise", "mean")
    for number in range(2):
        config = {"data": {"name": "mnist", **dict.fromkeys(options, number)}}
        write_run(tmp_path / "sweep" / str(number), config=config, status="failed")
    (tmp_path / "sweep" / "sweep.yaml").write_text("search: []\n", encoding="utf-8")
    (board,) = build_leaderboards(find_runs(tmp_path)[0])
    assert board.rows == ()
    assert board.title == "Search sweep on mnist", "while it runs, too"
    page = render_page([board], (), tmp_path / "page.html", 20)
    assert "Not finished" in page


def test_an_option_of_a_data_set_from_outside_makes_a_row_of_its_own(tmp_path: Path) -> None:
    for target, rows in (("my_data.PictureFolder", 2), (MNIST_MODULE, 1)):
        for folder in ("a", "b"):
            data = {"_target_": target, "name": "pictures", "folder": folder}
            write_run(tmp_path / target / folder, config={"data": data})
        board = build_leaderboard(find_runs(tmp_path / target)[0])
        assert len(board.rows) == rows


def test_whole_and_other_numbers_are_equal_but_one_batch_is_not_all_batches(tmp_path: Path) -> None:
    for number, decay in enumerate((0, 0.0)):
        optimizer = {"_target_": ADAM, "lr": 0.001, "weight_decay": decay}
        write_run(tmp_path / "a" / str(number), seed=number, config={"optimizer": optimizer})
    (board,) = build_leaderboards(find_runs(tmp_path / "a")[0])
    (row,) = board.rows
    assert row.n == 2
    assert comparable("optimizer.betas", [0, 0.5]) == comparable("optimizer.betas", [0.0, 0.5])
    assert comparable("trainer.limit_train_batches", 1) != comparable("trainer.limit_train_batches", 1.0)
    assert comparable("model.bias", True) != comparable("model.bias", 1)
