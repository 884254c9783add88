"""`mnist-lit predict` and `mnist-lit evaluate --pictures` on files as people have them."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.own_styles import STYLES
from mnist_lit.cli import app
from mnist_lit.errors import UserError
from tests.digits.test_preparation import several


def call(*arguments: object, input: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for digit in (3, 7):
        (pictures / f"{digit}_photo.jpg").write_bytes(STYLES["photo"](digit, np.random.default_rng(digit)))
    (pictures / "notes.txt").write_text("no picture, and not looked at")
    return pictures


@pytest.mark.mnist
def test_pictures_of_every_style_are_read(good_run: Path, tmp_path: Path) -> None:
    for number, style in enumerate(STYLES):
        for digit in range(number % 3, 10, 3):
            drawn = STYLES[style](digit, np.random.default_rng([number, digit]))
            (tmp_path / f"{digit}_{style}.png").write_bytes(drawn)
    printed = call("evaluate", good_run, "--pictures", tmp_path).stdout
    assert f"{len(list(tmp_path.iterdir())):,} pictures" in printed
    assert float(printed.split("accuracy")[1].split("%")[0]) > 97


def test_json_lists_a_record_for_each_file(small_run: Path, folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"not a picture")
    done = call("predict", small_run, "--json", folder, folder / "missing.png")
    assert done.exit_code == 1
    records = {Path(record["file"]).name: record for record in json.loads(done.stdout)}
    assert list(records) == ["3_photo.jpg", "7_photo.jpg", "broken.png", "missing.png"]
    assert records["broken.png"]["error"] == "is not a picture that can be read"
    assert records["missing.png"]["error"] == "No such file or directory"
    good = records["3_photo.jpg"]
    assert set(good) == {"file", "prediction", "probability", "top"}
    assert [good["prediction"], good["probability"]] == list(good["top"][0].values())
    shares = [choice["probability"] for choice in good["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


def test_one_bad_picture_is_one_line_and_the_rest_is_read(small_run: Path, folder: Path) -> None:
    (folder / "4_empty.png").write_bytes(b"")
    (folder / "nothing").mkdir()
    done = call("predict", small_run, folder / "nothing", folder)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"error: {folder / 'nothing'}: there are no pictures in this folder",
        f"error: {folder / '4_empty.png'}: is empty (0 bytes)",
    ]
    assert done.stdout.count("%") == 2 * 3


def test_csv_holds_the_same(small_run: Path, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(call("predict", small_run, "--csv", folder).stdout)))
    records = json.loads(call("predict", small_run, "--json", folder).stdout)
    assert [(row["file"], int(row["prediction"]), float(row["third_probability"])) for row in rows] == [
        (record["file"], record["prediction"], record["top"][2]["probability"]) for record in records
    ]


def test_standard_input_and_what_the_network_sees(small_run: Path, folder: Path) -> None:
    content = (folder / "3_photo.jpg").read_bytes()
    piped = json.loads(call("predict", small_run, "--json", "-", input=content).stdout)
    (named,) = json.loads(call("predict", small_run, "--json", folder / "3_photo.jpg").stdout)
    assert piped == [named | {"file": "-"}]
    shown = call("predict", small_run, "--show", "-", input=content).stdout.splitlines()
    assert len(shown) == 1 + 28 + 2
    assert "█" in shown[15]


def test_many_reads_each_digit_of_a_picture(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "several.jpg").write_bytes(several([4, 0, 5], seed=3)[0])
    alone = call("predict", small_run, tmp_path / "several.jpg")
    assert (alone.exit_code, "--many" in alone.stderr) == (1, True)
    records = json.loads(call("predict", small_run, "--many", "--json", tmp_path / "several.jpg").stdout)
    assert [record["box"][0] for record in records] == sorted(record["box"][0] for record in records)
    assert len(records) == 3
    assert "2 of 3" in call("predict", small_run, "--many", tmp_path / "several.jpg").stdout


def test_labels_come_from_folders_too_and_the_wrong_are_named(small_run: Path, tmp_path: Path) -> None:
    for digit in range(10):
        (tmp_path / str(digit)).mkdir()
        (tmp_path / str(digit) / "mine.png").write_bytes(STYLES["thick"](digit, np.random.default_rng(digit)))
    (tmp_path / "9" / "other.png").write_bytes(b"broken")
    printed = call("evaluate", small_run, "--pictures", tmp_path).stdout
    records = json.loads(call("predict", small_run, "--json", tmp_path).stdout)
    right = sum(record.get("prediction") == int(Path(record["file"]).parent.name) for record in records)
    assert f"accuracy   {right / 11:.2%}" in printed
    assert printed.count("wrong:") == 11 - right
    assert f"{tmp_path / '9' / 'other.png'}: 9 was not read: is not a picture" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "EMPTY", "x.png"], "no such checkpoint"),
        (["predict", "RUN", "--json", "--csv", "x.png"], "only one"),
        (["evaluate", "RUN", "--pictures", "EMPTY"], "no pictures"),
        (["evaluate", "RUN", "--pictures", "NOWHERE"], "no such folder"),
        (["evaluate", "RUN", "--pictures", "UNLABELLED"], "which digit"),
    ],
)
def test_what_cannot_be_done_is_said(small_run: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unlabelled").mkdir()
    (tmp_path / "unlabelled" / "mine.png").write_bytes(STYLES["thick"](1, np.random.default_rng(0)))
    places = {"RUN": small_run} | {name.upper(): tmp_path / name for name in ("empty", "nowhere", "unlabelled")}
    with pytest.raises(UserError, match=said):
        CliRunner().invoke(app, [str(places.get(word, word)) for word in arguments], catch_exceptions=False)
