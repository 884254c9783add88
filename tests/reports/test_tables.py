"""The tables for the terminal, as Markdown and as CSV, and how they treat broken folders."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from mnist_lit.api import Runs
from mnist_lit.cli import app
from mnist_lit.console import render_text, warning_box
from mnist_lit.errors import UserError
from mnist_lit.reports.comparison import compare_runs
from mnist_lit.reports.leaderboard import Leaderboard, build_leaderboards
from mnist_lit.reports.run_reader import find_runs, read_run
from mnist_lit.reports.tables import build_comparison, build_table, format_csv, format_markdown
from tests.reports.written_runs import (
    ADAM,
    CROSS_ENTROPY,
    write_grid,
    write_lesson,
    write_predictions,
    write_run,
    write_search,
)


def boards(folder: Path) -> list[Leaderboard]:
    return build_leaderboards(find_runs(folder)[0])


def report(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["report", str(folder), *options], env={"COLUMNS": "80"}, catch_exceptions=False)
    return done.stdout


def print_table(board: Leaderboard, width: int, top: int | None = None) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(build_table(board, console, top))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def targets(folder: Path, *pairs: tuple[str, str]) -> None:
    """A run for each pair of an optimizer's choice and its class."""
    for number, (choice, target) in enumerate(pairs):
        config = {"optimizer": {"_target_": target, "lr": 0.001}}
        write_run(folder / str(number), config=config, choices={"model": "cnn", "optimizer": choice})


def test_a_class_path_is_hidden_if_the_choice_explains_it_and_short_otherwise(tmp_path: Path) -> None:
    targets(tmp_path / "a", ("adam", "torch.optim.Adam"), ("sgd", "torch.optim.SGD"))
    (board,) = boards(tmp_path / "a")
    assert list(board.columns) == ["optimizer"]
    write_predictions(tmp_path / "a" / "0", np.arange(10) < 9)
    write_predictions(tmp_path / "a" / "1", np.arange(10) < 8)
    compared = compare_runs([read_run(tmp_path / "a" / "0"), read_run(tmp_path / "a" / "1")])
    assert compared.options == {"optimizer": ("adam", "sgd")}
    targets(tmp_path / "b", ("adam", "torch.optim.Adam"), ("adam", "lion_pytorch.Lion"))
    (board,) = boards(tmp_path / "b")
    assert list(board.columns) == ["optimizer._target_"]
    assert "| Lion |" in format_markdown([board])
    assert "lion_pytorch" not in format_markdown([board])


def test_failed_runs_are_listed_with_the_reason(outputs: Path) -> None:
    printed = report(outputs)
    assert f"{outputs / 'c'}: failed (RuntimeError: out of memory)" in printed


def test_pruned_trials_are_counted_but_not_listed(tmp_path: Path) -> None:
    search = write_search(tmp_path / "search")
    printed = report(tmp_path)
    assert f"{search}: 1 pruned trial" in printed
    assert f"{search / '3_lr-0.1'}: failed" in printed
    assert "1_lr-0.001" not in printed


def test_the_number_of_a_trial_is_that_of_its_folder_and_of_the_study(tmp_path: Path) -> None:
    (board,) = boards(write_search(tmp_path / "search"))
    rows = list(csv.DictReader(io.StringIO(format_csv([board]))))
    table = print_table(board, 200)
    for row in rows:
        folder = Path(row["folder"]).name
        assert f"│ {folder.split('_')[0]}" in next(line for line in table.splitlines() if folder in line)


BROKEN = {
    "half": '{"status": "comp',
    "foreign": '{"accuracy": 1}',
    "list": "[1, 2]",
    "empty": "",
    "text": '{"status": "completed", "test_acc": "high"}',
    "binary": "\x00\x01",
}


def test_broken_and_foreign_folders_are_skipped_and_listed(outputs: Path) -> None:
    for name, content in BROKEN.items():
        (outputs / name).mkdir()
        (outputs / name / "result.json").write_text(content, encoding="utf-8")
        (outputs / name / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    (outputs / "no_config").mkdir()
    (outputs / "no_config" / "result.json").write_text('{"status": "completed"}', encoding="utf-8")
    write_run(outputs / "bad_yaml")
    (outputs / "bad_yaml" / "config.yaml").write_text("a: [1,", encoding="utf-8")
    runs, problems = find_runs(outputs)
    assert [len(board.rows) for board in build_leaderboards(runs)] == [2]
    for name in (*BROKEN, "no_config", "bad_yaml"):
        assert any(str(outputs / name) in problem for problem in problems), name
    for name in (*BROKEN, "no_config", "bad_yaml"):
        assert str(outputs / name) in report(outputs)
        assert str(outputs / name) in report(outputs, "--markdown")


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)


def test_a_filter_that_leaves_no_run_is_an_error(outputs: Path) -> None:
    with pytest.raises(UserError, match="none of the 5 runs below"):
        report(outputs, "--filter", "seed=99")


def test_csv_and_markdown_have_every_row_and_the_folders(outputs: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(report(outputs, "--csv"))))
    assert [float(row["optimizer.lr"]) for row in rows] == [0.001, 0.1]
    assert float(rows[0]["test_acc"]) == pytest.approx(0.92)
    assert rows[0]["folder"].split(";") == [str(outputs / name) for name in ("a0", "a1", "a2")]
    assert rows[0]["group"] == "Single runs on mnist"
    assert "92.00 ± 2.00 %" in report(outputs, "--markdown")
    assert "python train.py optimizer.lr=0.001 seed=0" in report(outputs, "--markdown")


def test_each_table_has_its_first_rows_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_grid(tmp_path / name, *(number / 100 for number in range(1, 43)))
    printed = report(tmp_path)
    rows = [line for line in printed.splitlines() if line.startswith("│")]
    assert len(rows) == 2 * 20
    assert max(map(len, printed.splitlines())) <= 80 or "python train.py" in max(printed.splitlines(), key=len)
    assert printed.count("22 more rows with --top 42") == 2
    assert len([line for line in report(tmp_path, "--top", "42").splitlines() if line.startswith("│")]) == 2 * 42
    assert "22 more rows" in report(tmp_path, "--markdown")
    assert report(tmp_path, "--csv").count("\n") == 1 + 2 * 42


def test_tags_are_a_column_if_a_run_has_them(outputs: Path) -> None:
    assert "│ tags" not in report(outputs).replace("┃", "│")
    write_run(outputs / "tagged", lr=0.2, tags=["lecture", "cnn"])
    printed = report(outputs).replace("┃", "│")
    assert "│ tags" in printed
    assert "lecture, cnn" in printed


def test_the_point_of_a_lesson_is_below_its_table(tmp_path: Path) -> None:
    write_lesson(tmp_path / "lesson")
    assert "All four train." in report(tmp_path)


def test_published_and_reference_accuracies_are_beside_the_measured_one(tmp_path: Path) -> None:
    reference = {"reference": {"article": "A", "published": "0.96", "loop_acc": 0.9513}}
    write_run(tmp_path / "a", config=reference)
    assert "| 0.96 | 95.13% | 90.00% |" in format_markdown(boards(tmp_path))


def test_a_narrow_terminal_hides_columns_but_cuts_no_cell(outputs: Path) -> None:
    for width in (80, 200):
        printed = print_table(boards(outputs)[0], width)
        assert "92.00 ± 2.00 %" in printed
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= width
        assert ("samples/s" in printed.splitlines()[2]) == (width == 200)


def test_with_many_different_options_a_row_lists_only_its_unusual_ones(tmp_path: Path) -> None:
    usual = {
        "optimizer": {"_target_": ADAM, "lr": 0.001},
        "loss": {"_target_": CROSS_ENTROPY, "label_smoothing": 0.0},
    }
    others: list[dict[str, Any]] = [
        {},
        {"loss": {"_target_": CROSS_ENTROPY, "label_smoothing": 0.1}},
        {"data": {"name": "mnist", "batch_size": 128}},
        {"data": {"name": "mnist", "batch_size": 256}},
        {"trainer": {"max_epochs": 17, "gradient_clip_val": 0.5}},
    ]
    for number, changes in enumerate(others):
        write_run(tmp_path / str(number), val_acc=0.9 - number / 100, config=usual | changes)
    printed = print_table(boards(tmp_path)[0], 80)
    lines = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.count("│") > 4}
    assert "as most rows" in lines["1"]
    assert "label_smoothing=0.1" in lines["2"]
    assert "90.00%" in lines["1"], "the validation accuracy decides the rank, so it stays"
    assert "label_smoothing=0" in " ".join(printed.split("Most rows")[1].split())
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_networks_of_the_first_row_are_shown_together(tmp_path: Path) -> None:
    """Two networks are unsure about other images, so that together they are right more often."""
    label = np.arange(100) % 10
    for seed in range(2):
        unsure = np.arange(100) < 20 if seed == 0 else np.arange(100) >= 80
        answers = np.where(unsure[:, None], np.eye(10)[(label + 1) % 10] * 0.2 + 0.08, np.eye(10)[label])
        write_run(tmp_path / str(seed), seed=seed, test_acc=0.8)
        write_predictions(tmp_path / str(seed), ~unsure, probabilities=answers)
    runs, problems = find_runs(tmp_path)
    text = format_markdown(build_leaderboards(runs), problems)
    assert "The 2 networks of the first row together:" in text
    assert "100.00% of the test images" in text
    write_predictions(tmp_path / "0", label >= 0)
    assert "together" not in format_markdown(build_leaderboards(find_runs(tmp_path)[0]))


def test_lines_of_csv_end_as_those_of_other_programs_and_unreadable_runs_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "good")
    write_run(tmp_path / "bad")
    (tmp_path / "bad" / "config.yaml").write_text("{", encoding="utf-8")
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--csv"], catch_exceptions=False)
    assert "\r" not in done.stdout
    assert f"not readable: {tmp_path / 'bad' / 'config.yaml'}" in done.stderr


def test_another_order_does_not_claim_that_validation_decides(tmp_path: Path) -> None:
    write_grid(tmp_path / "grid", 0.1, 0.2)
    assert "order of their validation accuracy" in report(tmp_path)
    for options in (("--sort", "lr"), ("--sort", "lr", "--markdown")):
        assert "order of their validation accuracy" not in report(tmp_path, *options)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "no archive": lambda whole: b"PK\x03\x04 and no more",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "damaged": lambda whole: whole[:200] + bytes(2000) + whole[2200:],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_predictions_are_treated_as_missing(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    for number in range(2):
        folder = write_run(tmp_path / str(number), seed=number)
        write_predictions(folder, np.arange(1000) < 900, probabilities=np.random.default_rng(0).random((1000, 10)))
    file = tmp_path / "1" / "test_predictions.npz"
    file.write_bytes(damage(file.read_bytes()))
    assert "mnist" in report(tmp_path)
    report(tmp_path, "--html", str(tmp_path / "page.html"))
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "0"), str(tmp_path / "1")])
    assert isinstance(done.exception, UserError)
    assert "no predictions to compare" in str(done.exception)


BRACKETS = ["cnn [wide]", "[/x]", ":smile:", "[bold]x"]


@pytest.mark.parametrize("name", BRACKETS)
def test_a_table_shows_a_text_as_it_is(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / name.replace("/", "") / str(number) for number in range(2)]
    for number, folder in enumerate(folders):
        write_run(
            folder, tags=[name], lr=0.1 + number, config={"model": {"_target_": "x.Y", "kind": f"{name}{number}"}}
        )
        write_predictions(folder, np.arange(10) < 9)
    runs = find_runs(tmp_path)[0]
    (board,) = build_leaderboards(runs)
    assert name in print_table(board, 200)
    assert name in render_text(build_comparison(compare_runs(runs)), 200)
    assert name in repr(Runs(runs))
    assert name in warning_box("title", name)
