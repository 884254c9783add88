"""The HTML page: what it holds, what it loads, and in a real browser how its tables and plots work."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.data.idx import read_idx_file
from mnist_lit.reports.html_page import link_to, read_test_images
from mnist_lit.reports.leaderboard import build_leaderboards
from mnist_lit.reports.plots import plot_curves, plot_search, read_curves
from mnist_lit.reports.run_reader import find_runs
from mnist_lit.run_folder import write_config
from tests.configs import compose_config
from tests.conftest import TINY
from tests.reports.written_runs import (
    CROSS_ENTROPY,
    write_grid,
    write_lesson,
    write_predictions,
    write_run,
    write_search,
)


def write_page(folder: Path, *options: str) -> str:
    page = folder / "page.html"
    CliRunner().invoke(app, ["report", str(folder), "--html", str(page), *options], catch_exceptions=False)
    return page.read_text(encoding="utf-8")


def test_a_run_on_another_drive_of_windows_has_an_absolute_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert link_to(tmp_path / "a run", tmp_path / "page.html") == "a%20run"

    def refuse(path: Path, start: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", refuse)
    assert link_to(tmp_path / "a run", tmp_path / "page.html") == (tmp_path / "a run").as_uri()


class Page(HTMLParser):
    """Collects the addresses that a page loads, the links, and the number of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.scripts += tag == "script"
        if tag in ("link", "script", "img", "iframe"):
            self.loads += [values[name] for name in ("src", "href") if name in values]
        if tag == "a":
            self.links.append(values["href"])


@pytest.mark.slow
def test_the_page_is_one_file_of_less_than_3_mb_whose_links_lead_to_the_runs(outputs: Path) -> None:
    for group in range(8):
        for number in range(20):
            for seed in range(3):
                write_run(outputs / f"grid{group}" / f"{number}_{seed}", lr=number + 1, seed=seed)
                write_predictions(outputs / f"grid{group}" / f"{number}_{seed}", np.arange(10_000) % 40 > 0)
        (outputs / f"grid{group}" / "sweep.yaml").write_text("grid: []\n", encoding="utf-8")
    steps = [f"{step},{1 / step:.9f},{1 - 1 / step:.9f},0,," for step in range(1, 2000)]
    for run in outputs.rglob("metrics.csv"):
        run.write_text("step,train_loss,train_acc,epoch,val_loss,val_acc\n" + "\n".join(steps), encoding="utf-8")
    text = write_page(outputs)
    page = Page(text)
    assert len(text.encode()) < 3_000_000
    assert page.loads == []
    folders = [link for link in page.links if link.endswith("/")]
    assert len(folders) >= 8 * 20 * 3
    assert all((outputs / link / "result.json").exists() for link in folders)


def test_text_from_runs_is_escaped(outputs: Path) -> None:
    scripts = Page(write_page(outputs)).scripts
    attack = "</script><script>alert(1)</script>"
    write_run(outputs / "x", status="failed", error=attack)
    write_run(outputs / "y", choices={"model": attack}, tags=[attack], command=attack, versions={attack: attack})
    text = write_page(outputs)
    assert Page(text).scripts == scripts
    assert attack not in text


def test_a_row_has_its_command_options_versions_mistakes_and_folders(tmp_path: Path) -> None:
    names = ["T-shirt/top", *(f"class {index}" for index in range(1, 9)), "Ankle boot"]
    config = {"data": {"name": "fashion_mnist", "classes": names}}
    write_run(tmp_path / "a", config=config, versions={"torch": "2.99.1"}, git_commit="abc123")
    write_predictions(tmp_path / "a", np.arange(100) > 5)
    text = write_page(tmp_path)
    for expected in ("python train.py optimizer.lr=0.001 seed=0", "torch 2.99.1", "abc123", "optimizer.lr: 0.001"):
        assert expected in text
    assert "T-shirt/top read as class 1 (100 %)" in text
    assert "6 of 100 test images are wrong" in text
    assert "The test images are not on this machine" in text


def test_the_point_of_a_lesson_is_above_its_plots(tmp_path: Path) -> None:
    write_lesson(tmp_path / "lesson")
    text = write_page(tmp_path)
    assert text.index("sweep=losses lesson on mnist") < text.index("All four train.") < text.index('class="plot"')


def test_losses_of_different_kinds_have_plots_of_their_own(tmp_path: Path) -> None:
    losses = {"nll": {"_target_": "mnist_lit.losses.NLL"}, "mse": {"_target_": "mnist_lit.losses.MSE"}}
    losses |= {
        "smooth": {"_target_": CROSS_ENTROPY, "label_smoothing": 0.1},
        "plain": {"_target_": CROSS_ENTROPY, "label_smoothing": 0.0},
    }
    for name, section in losses.items():
        write_run(tmp_path / name, config={"loss": section}, choices={"loss": name.replace("smooth", "plain")})
    (board,) = build_leaderboards(find_runs(tmp_path)[0])
    curves = [curve for index, row in enumerate(board.rows) for curve in read_curves(board, row, index, 100)]
    titles = {chart["title"] for chart in plot_curves(curves)}
    assert titles == {"Error", "Loss: nll", "Loss: mse", "Loss: plain", "Loss: plain, label_smoothing=0.1"}
    assert curves[0]["curves"]["val_acc"] == [[10, 20], [0.8, 0.9]]
    assert curves[0]["curves"]["train_loss"] == [[5, 10, 20], [1.2, 0.6, 0.4]]


def test_a_search_has_its_values_against_each_option_and_names_pruned_trials(tmp_path: Path) -> None:
    (board,) = build_leaderboards(find_runs(write_search(tmp_path / "search"))[0])
    plots = {chart["title"]: chart for chart in plot_search(board.search)}
    against = [f"val_acc against {name}" for name in ("optimizer", "optimizer.lr", "trial")]
    assert list(plots) == [*against, "What matters for val_acc"]
    against_lr = plots["val_acc against optimizer.lr"]
    axis = against_lr["spec"]["encoding"]["x"]
    assert axis["scale"]["type"] == "log"
    assert axis["axis"]["values"] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])
    (values,) = against_lr["spec"]["datasets"].values()
    assert [(value["trial"], value["state"], value["value"]) for value in values] == [
        (0, "complete", 0.9), (1, "pruned", 0.42), (2, "complete", 0.92), (4, "complete", 0.94),
    ]  # fmt: skip
    assert "Failed, so without a value: trial 3." in against_lr["note"]


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    write_grid(tmp_path / "grid", *(number / 100 for number in range(1, 13)))
    write_search(tmp_path / "search")
    write_page(tmp_path)
    page = browser.new_page(color_scheme=request.param, viewport={"width": 1280, "height": 900})
    page.urls, page.errors = [], []
    page.on("request", lambda sent: page.urls.append(sent.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda line: page.errors.append(line.text) if line.type == "error" else None)
    page.goto((tmp_path / "page.html").as_uri())
    page.board = page.locator("section", has_text="Grid grid on mnist").first
    yield page
    assert page.errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.urls)
    page.close()


def column(page: Any, number: int) -> list[str]:
    return [
        cell.strip() for cell in page.board.locator(f".board tbody tr:visible td:nth-child({number})").all_inner_texts()
    ]


def wait_for_plots(page: Any) -> Any:
    page.board.locator(".charts").scroll_into_view_if_needed()
    page.board.locator(".plot svg.marks").first.wait_for()
    page.wait_for_timeout(600)
    return page.board.locator(".plot").first


def lines(page: Any) -> int:
    return int(wait_for_plots(page).locator("path[aria-roledescription='line mark']").count())


@pytest.mark.slow
def test_a_click_on_a_heading_sorts_by_number(page: Any) -> None:
    page.board.get_by_role("button", name="lr").click()
    assert column(page, 3) == [f"{number / 100:g}" for number in range(1, 13)]
    page.board.get_by_role("button", name="lr").click()
    assert column(page, 3)[0] == "0.12"


@pytest.mark.slow
def test_filter_and_boxes_choose_the_rows_and_their_curves(page: Any) -> None:
    assert lines(page) == 2 * 10, "validation and training of the first ten rows"
    page.board.locator("input[type=search]").fill("lr=0.02")
    assert column(page, 3) == ["0.02"]
    assert lines(page) == 2
    page.board.locator("tbody input:visible").uncheck()
    assert not page.board.locator(".plot").first.is_visible()


@pytest.mark.slow
def test_the_curves_have_readable_ticks_and_say_the_run_and_its_value(page: Any) -> None:
    plot = wait_for_plots(page)
    ticks = plot.locator(".role-axis-label text").all_text_contents()
    assert {"0", "1", "2", "20 %", "50 %"} <= set(ticks)
    assert not any(re.search(r"[.×]\d", tick) for tick in ticks), ticks
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    told = page.locator("#vg-tooltip-element.visible").inner_text()
    assert "lr=0." in told
    assert "%" in told
    assert "undefined" not in told
    page.board.get_by_label("samples").check()
    assert "samples" in str(wait_for_plots(page).locator("svg.marks").text_content())


@pytest.mark.slow
def test_the_page_fits_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    wait_for_plots(page)
    page.board.locator("details").last.evaluate("details => details.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.board.locator(".plot svg.marks").first.bounding_box()["width"] > 300


@pytest.mark.slow
def test_a_link_opens_the_details_of_a_row(page: Any) -> None:
    page.board.get_by_role("link", name="3", exact=True).click()
    assert page.board.locator("details[open] pre").first.inner_text().startswith("python train.py")


@pytest.mark.slow
def test_the_images_of_the_worst_mistakes_are_in_the_page(script: Any, tmp_path: Path) -> None:
    assert script(*TINY, "trainer.max_epochs=1").code == 0
    text = write_page(tmp_path)
    assert "data:image/png;base64," in text
    plots = re.search(r'id="plots">(.*?)</script>', text)
    assert plots
    assert json.loads(plots[1])["g1"]["curves"]


def test_a_page_downloads_no_images(tmp_path: Path, mirror: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_LIT_DATA", raising=False)
    server = mirror(tmp_path)
    write_config(tmp_path, compose_config(f"data.root={tmp_path / 'nowhere'}", f"data.mirrors=['{server.url}']"))
    images, labels = read_test_images(tmp_path)
    assert (len(images), len(labels), server.requests) == (0, 0, [])
    assert not (tmp_path / "nowhere").exists()


def test_the_filter_of_a_row_knows_all_its_options(tmp_path: Path) -> None:
    for number in range(3):
        options = dict.fromkeys(("val_size", "train_size", "split_seed", "label_noise"), number)
        data, model = {"name": "mnist", **options}, {"_target_": "x.MLP", "hidden": [64, 64 + number // 2]}
        write_run(tmp_path / "sweep" / str(number), lr=0.1 if number else 0.2, config={"data": data, "model": model})
    (tmp_path / "sweep" / "sweep.yaml").write_text("grid: []\n", encoding="utf-8")
    rows = [set(text.split()) for text in re.findall(r'data-options="([^"]*)"', write_page(tmp_path))]
    assert sorted("lr=0.1" in row for row in rows) == [False, True, True], "most rows have it, and the filter finds it"
    assert sum("hidden=[64,64]" in row for row in rows) == 2


@pytest.mark.mnist
def test_a_run_whose_images_are_gone_hides_those_of_no_other_run(
    tmp_path: Path, mnist_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_LIT_DATA", raising=False)
    counts = []
    for name, root in (("gone", str(tmp_path / "nowhere")), ("there", mnist_root)):
        (tmp_path / name).mkdir()
        write_config(tmp_path / name, compose_config(f"data.root='{root}'"))
        counts.append(len(read_test_images(tmp_path / name)[0]))
    assert counts == [0, 10_000]


@pytest.mark.mnist
def test_the_page_of_mnist_runs_imports_no_torch(tmp_path: Path, mnist_root: str) -> None:
    folder = write_run(tmp_path / "run")
    labels = read_idx_file(Path(mnist_root) / "MNIST/raw/t10k-labels-idx1-ubyte", is_images=False)
    prediction = np.where(np.arange(10_000) < 3, (labels + 1) % 10, labels)
    write_predictions(folder, np.ones(10_000), label=labels, prediction=prediction)
    write_config(folder, compose_config(f"data.root='{mnist_root}'"))
    code = (
        "import sys; from mnist_lit.cli import app; app(standalone_mode=False)\n"
        "print('IMPORTED', {'torch', 'lightning'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "report", str(tmp_path), "--html", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert "IMPORTED set()" in done.stdout, done.stderr
    assert "data:image/png;base64," in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_test_images_of_the_embedded_digits_are_read_without_lightning(tmp_path: Path) -> None:
    write_config(tmp_path, compose_config("data=digits"))
    code = (
        "import sys; from pathlib import Path; from mnist_lit.reports.html_page import read_test_images\n"
        "print(read_test_images(Path(sys.argv[1]))[0].shape, 'lightning' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.stdout.split("\n")[0] == "(360, 28, 28) False", done.stderr


def test_the_details_belong_to_the_last_run_of_a_seed(tmp_path: Path) -> None:
    for number, wrong in enumerate((6, 3)):
        folder = write_run(tmp_path / str(number), started=f"2026-01-0{number + 1}T00:00:00")
        write_predictions(folder, np.arange(100) >= wrong)
    text = write_page(tmp_path)
    assert "3 of 100 test images are wrong" in text
    assert "6 of 100" not in text


def test_a_run_without_mistakes_shows_none(tmp_path: Path) -> None:
    write_predictions(write_run(tmp_path / "a"), np.arange(100) >= 0)
    text = write_page(tmp_path)
    assert "0 of 100 test images are wrong.</p>" in text
