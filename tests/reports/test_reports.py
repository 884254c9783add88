"""The leaderboard and the comparison: the arithmetic, and what they do with broken folders."""

import csv
import io
import json
import math
import os
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.errors import UserError
from mnist_lit.reports.compare import compare
from mnist_lit.reports.leaderboard import leaderboard
from mnist_lit.reports.page import page
from mnist_lit.reports.render import as_csv, markdown, terminal
from mnist_lit.reports.runs import find_runs, read_run
from mnist_lit.statistics import mcnemar_p

OPTIONS = {"data": {"name": "mnist", "batch_size": 64}, "optimizer": {"name": "adam", "lr": 0.001}, "trainer": {}}


def write_run(
    folder: Path, *, seed: int = 0, test_acc: float = 0.9, val_acc: float = 0.9, lr: float = 0.001, **changes: Any
) -> Path:
    folder.mkdir(parents=True)
    config = OPTIONS | {"seed": seed, "optimizer": {"name": "adam", "lr": lr}} | changes.pop("config", {})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = {
        "status": "completed", "seed": seed, "params": 10, "data": {"name": "mnist", "test_size": 10_000},
        "choices": {"model": "cnn", "optimizer": "adam"}, "command": f"python train.py optimizer.lr={lr} seed={seed}",
        "epochs": 2, "global_step": 20, "fit_seconds": 4.0, "train_samples_per_second": 100.0,
        "val_acc": val_acc, "test_acc": test_acc, "test_loss": 0.1,
    } | changes  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "metrics.csv").write_text("step,val_loss,val_acc\n0,2.3,0.1\n10,0.5,0.8\n20,0.3,0.9\n")
    return folder


def write_predictions(folder: Path, right: np.ndarray) -> None:
    label = (np.arange(len(right)) % 10).astype(np.uint8)
    prediction = np.where(right, label, (label + 1) % 10).astype(np.uint8)
    np.savez(folder / "test_predictions.npz", label=label, prediction=prediction, confidence=np.ones(len(right)))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for seed, (test_acc, val_acc) in enumerate([(0.90, 0.91), (0.92, 0.93), (0.94, 0.95)]):
        write_run(tmp_path / f"a{seed}", seed=seed, test_acc=test_acc, val_acc=val_acc)
    write_run(tmp_path / "b", lr=0.1, test_acc=0.99, val_acc=0.5)
    write_run(tmp_path / "c", status="failed", error="RuntimeError: out of memory")
    return tmp_path


def test_rows_group_seeds_and_give_mean_deviation_and_interval(outputs: Path) -> None:
    row = leaderboard(*find_runs(outputs)).rows[0]
    assert row.n == 3
    assert row.mean("test_acc") == pytest.approx(0.92)
    assert row.std("test_acc") == pytest.approx(0.02)
    half = 4.302653 * 0.02 / math.sqrt(3)  # Student's t, 2 degrees of freedom
    assert row.interval == pytest.approx((0.92 - half, 0.92 + half), abs=1e-6)


def test_the_test_set_does_not_rank(outputs: Path) -> None:
    first, second = leaderboard(*find_runs(outputs)).rows
    assert second.mean("test_acc") > first.mean("test_acc")
    assert first.mean("val_acc") > second.mean("val_acc")


def test_columns_are_the_options_that_vary(outputs: Path) -> None:
    assert list(leaderboard(*find_runs(outputs)).columns) == ["optimizer.lr"]


def test_a_choice_stands_for_the_options_that_it_explains(tmp_path: Path) -> None:
    for number, (name, lr) in enumerate([("adam", 0.001), ("sgd", 0.01), ("sgd", 0.1)]):
        config = {"optimizer": {"name": name, "lr": lr}}
        write_run(tmp_path / str(number), config=config, choices={"model": "cnn", "optimizer": name})
    assert list(leaderboard(*find_runs(tmp_path)).columns) == ["optimizer", "optimizer.lr"]


def test_where_files_lie_and_what_is_logged_makes_no_new_row(tmp_path: Path) -> None:
    write_run(tmp_path / "a", config={"data": {"name": "mnist", "root": "/a"}, "logger": {"csv": True}})
    write_run(tmp_path / "b", config={"data": {"name": "mnist", "root": "/b"}, "logger": {"csv": False}}, seed=1)
    write_run(tmp_path / "c", config={"data": {"name": "mnist"}, "checkpoint": {"every_seconds": 7}}, seed=2)
    assert [row.n for row in leaderboard(*find_runs(tmp_path)).rows] == [3]


def test_a_seed_that_was_run_again_counts_once(tmp_path: Path) -> None:
    for minute, (name, test_acc) in enumerate((("b", 0.90), ("a", 0.91))):
        ended = write_run(tmp_path / name, test_acc=test_acc) / "result.json"
        os.utime(ended, (60 * minute, 60 * minute))
    (row,) = leaderboard(*find_runs(tmp_path)).rows
    assert (row.n, row.values("test_acc"), row.std("test_acc")) == (1, [0.91], None)
    assert row.interval[1] - row.interval[0] > 0.01


def test_failed_runs_are_listed_with_their_reason(outputs: Path) -> None:
    printed = CliRunner().invoke(app, ["report", str(outputs)]).stdout
    assert f"{outputs / 'c'}: failed (RuntimeError: out of memory)" in printed


def test_each_data_set_has_a_ranking_of_its_own(outputs: Path) -> None:
    for number, val_acc in enumerate((0.92, 0.97)):
        config = {"data": {"name": "digits", "batch_size": 64}, "optimizer": {"name": "sgd", "lr": number}}
        write_run(outputs / f"digits{number}", val_acc=val_acc, config=config)
    ranked = leaderboard(*find_runs(outputs)).ranked
    assert [(row.data, rank, row.mean("val_acc")) for rank, row in ranked] == [
        ("mnist", 1, pytest.approx(0.93)), ("mnist", 2, 0.5), ("digits", 1, 0.97), ("digits", 2, 0.92),
    ]  # fmt: skip


def test_pruned_trials_are_counted_and_not_listed(outputs: Path) -> None:
    for number in range(3):
        write_run(outputs / "search" / f"trial{number}", status="pruned", error="val_acc 0.5 after 1 of 3 epochs")
    printed = CliRunner().invoke(app, ["report", str(outputs)]).stdout
    assert f"{outputs / 'search'}: 3 pruned trials" in printed
    assert "trial0" not in printed
    assert f"{outputs / 'c'}: failed" in printed


BROKEN = {
    "half": '{"status": "comp',
    "foreign": '{"accuracy": 1}',
    "list": "[1, 2]",
    "empty": "",
    "text": '{"status": "completed", "test_acc": "high"}',
    "binary": "\x00\x01",
}


def test_broken_and_foreign_folders_are_named_and_passed_over(outputs: Path) -> None:
    for name, content in BROKEN.items():
        (outputs / name).mkdir()
        (outputs / name / "result.json").write_text(content)
        (outputs / name / "config.yaml").write_text("seed: 0\n")
    (outputs / "no_config").mkdir()
    (outputs / "no_config" / "result.json").write_text('{"status": "completed"}')
    write_run(outputs / "bad_yaml")
    (outputs / "bad_yaml" / "config.yaml").write_text("a: [1,")
    board = leaderboard(*find_runs(outputs))
    assert len(board.rows) == 2
    for name in (*BROKEN, "no_config", "bad_yaml"):
        assert any(str(outputs / name) in problem for problem in board.problems), name
    for output in (markdown(board), page(board)):
        assert "half" in output


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)


def test_csv_and_markdown_hold_every_row(outputs: Path) -> None:
    board = leaderboard(*find_runs(outputs))
    rows = list(csv.DictReader(io.StringIO(as_csv(board))))
    assert [float(row["optimizer.lr"]) for row in rows] == [0.001, 0.1]
    assert float(rows[0]["test_acc"]) == pytest.approx(0.92)
    assert "92.00 ± 2.00 %" in markdown(board)
    assert "python train.py optimizer.lr=0.001 seed=0" in markdown(board)


def test_published_and_reference_stand_beside_what_was_measured(tmp_path: Path) -> None:
    reference = {"reference": {"article": "A", "published": "0.96", "loop_acc": 0.9513}}
    write_run(tmp_path / "a", config=reference)
    assert "| 0.96 | 95.13% | 90.00% |" in markdown(leaderboard(*find_runs(tmp_path)))


class Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("link", "script", "img", "iframe"):
            self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_loads_nothing_and_escapes_what_runs_contain(outputs: Path) -> None:
    write_predictions(outputs / "a0", np.arange(1000) % 7 > 0)
    write_run(outputs / "x", status="failed", error="<script>alert(1)</script>")
    text = page(leaderboard(*find_runs(outputs)))
    loads = Loads()
    loads.feed(text)
    assert loads.addresses == []
    assert "<script>" not in text
    assert text.count("<svg") == 3


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(5, 5) == 1
    assert mcnemar_p(0, 6) == pytest.approx(2 * 0.5**6)
    assert mcnemar_p(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_compare_counts_discordant_images_and_weighs_the_seeds(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b", lr=0.1)
    right = np.ones(1000, dtype=bool)
    write_predictions(one, right & (np.arange(1000) >= 10))
    write_predictions(two, right & (np.arange(1000) < 940))
    found = compare(read_run(one), read_run(two))
    assert (found.only_first, found.only_second) == (60, 10)
    assert found.options == {"optimizer.lr": (0.001, 0.1)}
    assert found.accuracy_difference == pytest.approx(0.05)
    assert found.seed_std is None
    assert "only several seeds can tell" in found.verdict
    for seed, test_acc in ((1, 0.80), (2, 0.99)):
        write_run(tmp_path / f"s{seed}", seed=seed, test_acc=test_acc)
    weighed = compare(read_run(one), read_run(two), find_runs(tmp_path)[0])
    assert weighed.seed_std == pytest.approx(np.std([0.9, 0.8, 0.99], ddof=1))
    assert weighed.degrees_of_freedom == 2
    assert "may be the seed's doing" in weighed.verdict


def test_a_spread_of_two_seeds_proves_little(tmp_path: Path) -> None:
    """With one degree of freedom 95 % of the ratios lie within 12.7, and not within 1.96."""
    one, two = write_run(tmp_path / "a", test_acc=0.94), write_run(tmp_path / "b", lr=0.1, test_acc=0.99)
    for folder, right in ((one, 940), (two, 990)):
        write_predictions(folder, np.arange(1000) < right)
    write_run(tmp_path / "s", seed=1, test_acc=0.95)
    assert "may be the seed's doing" in compare(read_run(one), read_run(two), find_runs(tmp_path)[0]).verdict
    for seed in range(2, 9):
        write_run(tmp_path / f"s{seed}", seed=seed, test_acc=0.94 + 0.01 * (seed % 2))
    assert "by more than two seeds" in compare(read_run(one), read_run(two), find_runs(tmp_path)[0]).verdict


def test_compare_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    failed = write_run(tmp_path / "c", status="failed")
    write_predictions(one, np.ones(10, dtype=bool))
    with pytest.raises(UserError, match="no predictions"):
        compare(read_run(one), read_run(two))
    write_predictions(two, np.ones(20, dtype=bool))
    with pytest.raises(UserError, match="same images"):
        compare(read_run(one), read_run(two))
    with pytest.raises(UserError, match="failed"):
        compare(read_run(one), read_run(failed))


def test_a_narrow_terminal_spares_columns_and_cuts_none(outputs: Path) -> None:
    for width in (80, 200):
        console = Console(width=width, file=io.StringIO())
        console.print(terminal(leaderboard(*find_runs(outputs)), console))
        assert isinstance(console.file, io.StringIO)
        printed = console.file.getvalue()
        assert "92.00 ± 2.00 %" in printed
        assert "…" not in printed
        assert ("samples/s │" in printed.replace("┃", "│")) == (width == 200)


def test_where_many_options_differ_a_row_names_those_that_most_rows_do_not_have(tmp_path: Path) -> None:
    usual = {"optimizer": {"name": "adam", "lr": 0.001}, "loss": {"name": "cross_entropy", "label_smoothing": 0.0}}
    others: list[dict[str, Any]] = [
        {},
        {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
        {"data": {"name": "mnist", "batch_size": 128}},
        {"data": {"name": "mnist", "batch_size": 256}},
        {"trainer": {"max_epochs": 17, "gradient_clip_val": 0.5}},
    ]
    for number, changes in enumerate(others):
        write_run(tmp_path / str(number), val_acc=0.9 - number / 100, config=usual | changes)
    console = Console(width=80, file=io.StringIO())
    console.print(terminal(leaderboard(*find_runs(tmp_path)), console))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    lines = {line.split("│")[1].strip(): line for line in printed.splitlines() if line.count("│") > 4}
    assert "as most" in lines["1"]
    assert "loss.label_smoothing=0.1" in lines["2"]
    assert "90.00%" in lines["1"], "validation accuracy, which ranks, stays"
    assert "loss.label_smoothing=0" in " ".join(printed.split("want of room")[1].split()).replace("│", "")
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80
