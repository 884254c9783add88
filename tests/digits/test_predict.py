"""`mnist-lit predict` and `mnist-lit evaluate --pictures` on picture files."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.errors import UserError
from tests.digits.hard_pictures import HARD_STYLES, PAGES, write_row
from tests.digits.picture_styles import STYLES, Style, colorize, draw_strokes, encode
from tests.digits.test_preparation import photograph_digits


def call(*arguments: object, input: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=input)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for digit in (3, 7):
        (pictures / f"{digit}_photo.jpg").write_bytes(STYLES["photo"](digit, np.random.default_rng(digit)))
    (pictures / "notes.txt").write_text("no picture, so it is ignored", encoding="utf-8")
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize("styles", [STYLES, HARD_STYLES], ids=["usual", "hard"])
def test_pictures_of_every_style_are_read(tmp_path: Path, styles: dict[str, Style]) -> None:
    for number, style in enumerate(styles):
        for digit in range(number % 3, 10, 3):
            drawn = styles[style](digit, np.random.default_rng([number, digit]))
            (tmp_path / f"{digit}_{style}.png").write_bytes(drawn)
    printed = call("evaluate", "--pictures", tmp_path).stdout
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
    assert good.keys() - {"reason"} == {"file", "prediction", "probability", "top", "box"}
    assert good["probability"] == good["top"][0]["probability"]
    assert good["prediction"] == (None if "reason" in good else good["top"][0]["digit"])
    shares = [choice["probability"] for choice in good["top"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


def test_what_else_is_in_a_picture_is_named(tmp_path: Path) -> None:
    seven = [[(120, 80), (220, 80), (150, 240)]]
    beside = {
        "alone": [],
        "what touches the picture's edge": [[(0, 260), (299, 285)]],
        "smaller shapes": [[(20, 190), (20, 240), (45, 240)]],
    }
    for name, strokes in beside.items():
        lines = [np.array(stroke, float) for stroke in seven + strokes]
        (tmp_path / f"{name}.png").write_bytes(encode(colorize(draw_strokes(lines, 300, 16))))
    for name in beside:
        picture = tmp_path / f"{name}.png"
        printed = call("predict", picture).stdout
        assert ("left out: " in printed) == (name != "alone")
        (record,) = json.loads(call("predict", "--json", picture).stdout)
        assert record["prediction"] == 7
        assert record.get("left_out", "alone") == name


def test_a_bad_picture_gives_one_line_and_the_others_are_read(small_run: Path, folder: Path) -> None:
    (folder / "4_empty.png").write_bytes(b"")
    (folder / "nothing").mkdir()
    done = call("predict", small_run, folder / "nothing", folder)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"error: {folder / 'nothing'}: there are no pictures in this folder",
        f"error: {folder / '4_empty.png'}: is empty (0 bytes)",
    ]
    assert done.stdout.count("%") == 2 * 3


def test_csv_has_the_same_values_as_json(small_run: Path, folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(call("predict", small_run, "--csv", folder).stdout)))
    records = json.loads(call("predict", small_run, "--json", folder).stdout)
    assert [(row["file"], row["prediction"], float(row["third_probability"]), row["error"]) for row in rows] == [
        (
            record["file"],
            "" if record["prediction"] is None else str(record["prediction"]),
            record["top"][2]["probability"],
            record.get("reason", ""),
        )
        for record in records
    ]


def test_predict_reads_standard_input_and_shows_the_pixels(small_run: Path, folder: Path) -> None:
    content = (folder / "3_photo.jpg").read_bytes()
    piped = json.loads(call("predict", small_run, "--json", "-", input=content).stdout)
    (named,) = json.loads(call("predict", small_run, "--json", folder / "3_photo.jpg").stdout)
    assert piped == [named | {"file": "-"}]
    shown = call("predict", small_run, "--show", "-", input=content).stdout.splitlines()
    assert len(shown) == 1 + 28 + 2
    assert "█" in shown[15]


def test_many_reads_each_digit_of_a_picture(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "several.jpg").write_bytes(photograph_digits([4, 0, 5], seed=3)[0])
    alone = call("predict", small_run, tmp_path / "several.jpg")
    assert (alone.exit_code, "--many" in alone.stderr) == (1, True)
    records = json.loads(call("predict", small_run, "--many", "--json", tmp_path / "several.jpg").stdout)
    assert [record["box"][0] for record in records] == sorted(record["box"][0] for record in records)
    assert len(records) == 3
    text = "".join("?" if record["prediction"] is None else str(record["prediction"]) for record in records)
    assert call("predict", small_run, "--many", tmp_path / "several.jpg").stdout.splitlines()[0].endswith(f"  {text}")


@pytest.mark.parametrize("kind", ["slanted neighbors", "dark edge", "touching the edge", "two sizes"])
def test_many_prints_the_digits_of_a_page(tmp_path: Path, kind: str) -> None:
    right = total = 0
    for seed in range(3):
        picture, rows = PAGES[kind](np.random.default_rng(seed))
        (tmp_path / "page.png").write_bytes(picture)
        lines = call("predict", "--many", tmp_path / "page.png").stdout.splitlines()
        printed = [
            line.split("page.png")[1].replace(" ", "")
            for line in lines
            if line.startswith(str(tmp_path)) and "probably" not in line
        ]
        assert [len(line) for line in printed] == [len(row) for row in rows]
        pairs = list(zip("".join(printed), "".join(rows), strict=True))
        right, total = right + sum(one == other for one, other in pairs), total + len(pairs)
    assert right / total > 0.85


def test_a_wide_gap_is_printed_as_a_space(small_run: Path, tmp_path: Path) -> None:
    rng, strokes = np.random.default_rng(3), []
    for word, left in (("0412", 40), ("89", 420)):
        strokes += write_row(word, rng, left, 60, 80, 20)
    (tmp_path / "page.png").write_bytes(encode(colorize(draw_strokes(strokes, 640, 8)[:220])))
    line = call("predict", small_run, "--many", tmp_path / "page.png").stdout.splitlines()[0]
    assert [len(word) for word in line.split()[1:]] == [4, 2]


def test_labels_come_from_folders_and_wrong_predictions_are_listed(small_run: Path, tmp_path: Path) -> None:
    for digit in range(10):
        (tmp_path / str(digit)).mkdir()
        (tmp_path / str(digit) / "mine.png").write_bytes(STYLES["thick"](digit, np.random.default_rng(digit)))
    (tmp_path / "9" / "other.png").write_bytes(b"broken")
    printed = call("evaluate", small_run, "--pictures", tmp_path).stdout
    records = json.loads(call("predict", small_run, "--json", tmp_path).stdout)
    right = sum(record.get("prediction") == int(Path(record["file"]).parent.name) for record in records)
    assert f"accuracy   {right / 11:.2%}" in printed
    assert printed.count("wrong:") == 11 - right
    assert f"{tmp_path / '9' / 'other.png'}: label 9, not read: is not a picture" in printed


LITTER = [
    *("._3_photo.jpg", ".DS_Store", ".thumbnails/3.png", "__MACOSX/._3_photo.jpg", "@eaDir/3_photo.jpg/SMALL.jpg"),
    *("Thumbs.db", "desktop.ini", "3_photo.jpg~", "3_photo.jpg.bak", "~$3_photo.jpg", ".3_photo.jpg.swp", "#3.png#"),
    *(".ipynb_checkpoints/3-checkpoint.png", "$RECYCLE.BIN/3.png", ".Trash-0/3.png", "3.jpg.part"),
]
UNREAD = {
    "4.heic": (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
    "9.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n", "EPS"),
    "scan.pdf": (b"%PDF-1.7\n%", "PDF"),
    "7.SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
}


def test_litter_of_file_managers_and_editors_is_no_picture(small_run: Path, folder: Path) -> None:
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0\x05\x16\x07 no picture")
    (folder / "7.png").mkdir()  # a folder with such a name
    done = call("predict", small_run, "--json", folder)
    assert done.exit_code == 0
    assert [Path(record["file"]).name for record in json.loads(done.stdout)] == ["3_photo.jpg", "7_photo.jpg"]
    assert f"{folder}: 2 pictures" in call("evaluate", small_run, "--pictures", folder).stdout


@pytest.mark.slow
def test_heic_is_read_where_its_package_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    with Image.open(io.BytesIO(STYLES["photo"](7, np.random.default_rng(7)))) as photo:
        heif.from_pillow(photo).save(tmp_path / "photo.heic")
    (tmp_path / "damaged.heic").write_bytes((tmp_path / "photo.heic").read_bytes()[:200])
    code = "from mnist_lit.cli import main; main()"
    command = [sys.executable, "-c", code, "predict", "photo.heic", "damaged.heic"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.stdout.split()[:2] == ["photo.heic", "7"], done.stderr
    assert done.stderr.splitlines()[-1] == "error: damaged.heic: is not a picture that can be read"
    (tmp_path / "labeled").mkdir()
    (tmp_path / "photo.heic").rename(tmp_path / "labeled" / "7_photo.heic")
    evaluated = call("evaluate", "--pictures", tmp_path / "labeled")
    assert evaluated.exit_code == 0
    assert "accuracy   100.00%" in evaluated.stdout


def test_pictures_of_kinds_that_cannot_be_read_are_named_and_do_not_count(
    small_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it was not installed
    for name, (content, _) in UNREAD.items():
        (folder / name).write_bytes(content)
    done = call("predict", small_run, folder)
    assert done.exit_code == 1
    assert done.stdout.count("%") == 2 * 3
    for name, (_, kind) in UNREAD.items():
        assert f"{folder / name}: is a picture of the kind {kind}, which cannot be read" in done.stderr
    evaluated = call("evaluate", small_run, "--pictures", folder)
    assert evaluated.exit_code == 1
    assert f"{folder}: 2 pictures" in evaluated.stdout
    assert all(f"not read, does not count: {folder / name}" in evaluated.stdout for name in UNREAD)
    (folder / "7_photo.jpg").rename(folder / "7_photo.heic")  # a JPEG in spite of its name
    evaluated = call("evaluate", small_run, "--pictures", folder)
    assert f"{folder}: 2 pictures" in evaluated.stdout
    assert f"not read, does not count: {folder / '7_photo.heic'}" not in evaluated.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nowhere", "x.png"], "nowhere: there is no such run, checkpoint or picture"),
        (["predict", "RUN"], "name pictures after it"),
        (["evaluate"], "name a run, for example latest"),
        (["predict", "RUN", "--json", "--csv", "x.png"], "only one"),
        (["evaluate", "RUN", "--pictures", "EMPTY"], "no pictures"),
        (["evaluate", "RUN", "--pictures", "NOWHERE"], "no such folder"),
        (["evaluate", "RUN", "--pictures", "UNLABELED"], "which digit"),
    ],
)
def test_wrong_arguments_are_refused(small_run: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unlabeled").mkdir()
    (tmp_path / "unlabeled" / "mine.png").write_bytes(STYLES["thick"](1, np.random.default_rng(0)))
    places = {"RUN": small_run} | {name.upper(): tmp_path / name for name in ("empty", "nowhere", "unlabeled")}
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(app, [str(places.get(word, word)) for word in arguments], catch_exceptions=False)
