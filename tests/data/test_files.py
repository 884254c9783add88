"""Downloads are verified, damaged files are replaced, and errors name each failure."""

import gzip
import random
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torchvision

from mnist_lit.data.files import (
    MNIST_FILES,
    DataFile,
    DataUnavailable,
    FileSet,
    ensure_files,
    find_faults,
    torchvision_mirrors,
)
from mnist_lit.errors import UserError
from tests.configs import compose_config
from tests.conftest import Outcome
from tests.mirror import Mirror
from tests.selection import slow_except

pytestmark = pytest.mark.mnist
Serve = Callable[[Path], Mirror]
Command = Callable[..., Outcome]


@pytest.fixture
def archives(mnist_root: str, tmp_path: Path) -> Path:
    """The four real archives. Tests are skipped if the data folder holds only the unpacked files."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for file in MNIST_FILES.values():
        packed = FileSet(root=mnist_root).path / f"{file.name}.gz"
        if not packed.exists():
            pytest.skip("the data folder holds no archives to serve")
        shutil.copy(packed, folder)
    return folder


@pytest.fixture
def downloaded(archives: Path, mirror: Serve, tmp_path: Path) -> FileSet:
    """The four files, downloaded by this program, so that a test can damage them. Its mirror cannot be reached."""
    ensure_files(FileSet(root=tmp_path / "downloaded", mirrors=[mirror(archives).url]))
    return FileSet(root=tmp_path / "downloaded", mirrors=["http://127.0.0.1:9/"])


@pytest.fixture
def own(mnist_root: str, tmp_path: Path) -> FileSet:
    """Four files of somebody's own under MNIST's names: the digits in reverse order, in MNIST's format and size."""
    files = FileSet(root=tmp_path / "own", mirrors=["http://127.0.0.1:9/"])
    files.path.mkdir(parents=True)
    for role, file in MNIST_FILES.items():
        content = (FileSet(root=mnist_root).path / file.name).read_bytes()
        header = 16 if role.endswith("images") else 8
        (files.path / file.name).write_bytes(content[:header] + content[header:][::-1])
    return files


def read_all(folder: Path) -> dict[str, bytes | None]:
    """The content of each file; None for a link to nothing."""
    return {path.name: path.read_bytes() if path.exists() else None for path in folder.iterdir()}


def pack(files: FileSet) -> None:
    """Leaves only the archives."""
    for file in files.files.values():
        path = files.path / file.name
        path.with_name(f"{file.name}.gz").write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
        path.unlink()


def keep_one(files: FileSet) -> None:
    for file in list(files.files.values())[:3]:
        (files.path / file.name).unlink()


def break_link(files: FileSet) -> None:
    path = files.path / "train-images-idx3-ubyte"
    path.unlink()
    path.symlink_to("disk-that-is-not-there/images")


@pytest.mark.parametrize("change", [lambda files: None, pack, keep_one, break_link])
def test_files_of_somebody_else_are_never_replaced(
    change: Callable[[FileSet], None], own: FileSet, archives: Path, mirror: Serve
) -> None:
    change(own)
    before, server = read_all(own.path), mirror(archives)
    with pytest.raises(UserError) as caught:
        ensure_files(replace(own, mirrors=[server.url]))
    assert not isinstance(caught.value, DataUnavailable), "the digits do not replace them"
    for named in (*before, "data=fashion_mnist", "docs/extending.md", "data.root", "MNIST_LIT_DATA"):
        assert named in str(caught.value)
    assert read_all(own.path) == before
    assert server.requests == []


def test_a_run_on_files_of_somebody_else_is_an_error_and_names_what_works(script: Command, tmp_path: Path) -> None:
    raw = FileSet(root=tmp_path).path
    raw.mkdir(parents=True)
    for part, count in (("train", 200), ("t10k", 50)):
        labels = bytes(range(10)) * (count // 10)
        header = struct.pack(">4i", 2051, count, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + random.Random(0).randbytes(784 * count))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels)
    before = read_all(raw)
    options = ["model=mlp_128_64", "trainer.max_epochs=1", "data.val_size=50", "data.batch_size=50"]
    refused = script(*options, MNIST_LIT_DATA=str(tmp_path))
    assert refused.code == 1
    assert "train-images-idx3-ubyte" in refused.output
    assert not (tmp_path / "outputs").exists()
    (words,) = re.findall(r"data=fashion_mnist data.folder=\S+(?=\.)", refused.output)
    trained = script(*options, *words.split(), MNIST_LIT_DATA=str(tmp_path))
    assert trained.code == 0, trained.output
    assert trained.result["data"]["train_size"] == 150
    assert read_all(raw) == before


def test_a_file_that_replaced_a_download_is_not_replaced(downloaded: FileSet, own: FileSet) -> None:
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        shutil.copy(own.path / name, downloaded.path / name)
    before = read_all(downloaded.path)
    with pytest.raises(UserError, match="did not write"):
        ensure_files(downloaded)
    assert read_all(downloaded.path) == before


def test_an_archive_that_replaced_a_download_is_not_replaced(downloaded: FileSet, own: FileSet) -> None:
    pack(own)
    shutil.copytree(own.path, downloaded.path, dirs_exist_ok=True)
    for file in MNIST_FILES.values():
        (downloaded.path / file.name).unlink()
    before = read_all(downloaded.path)
    with pytest.raises(UserError, match="did not write"):
        ensure_files(downloaded)
    assert read_all(downloaded.path) == before


def test_labels_that_somebody_corrected_are_kept_under_another_name(
    downloaded: FileSet, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = downloaded.path / "train-labels-idx1-ubyte"
    corrected = bytearray(labels.read_bytes())
    corrected[8:11] = b"\1\2\3"
    labels.write_bytes(corrected)
    ensure_files(downloaded)
    assert find_faults(downloaded) == {}
    assert labels.with_name("train-labels-idx1-ubyte.damaged").read_bytes() == corrected
    assert "train-labels-idx1-ubyte.damaged" in capsys.readouterr().out


def test_a_damaged_download_has_no_fallback_and_no_other_file_is_touched(downloaded: FileSet) -> None:
    images = downloaded.path / "train-images-idx3-ubyte"
    truncate(images)
    truncate(images.with_name(f"{images.name}.gz"))
    before = read_all(downloaded.path)
    with pytest.raises(UserError, match="refused") as caught:
        ensure_files(downloaded)
    assert not isinstance(caught.value, DataUnavailable)
    assert read_all(downloaded.path) == before


def test_files_that_torchvision_downloaded_are_used(mnist_root: str, tmp_path: Path) -> None:
    raw = FileSet(root=tmp_path).path
    raw.mkdir(parents=True)
    for file in MNIST_FILES.values():
        shutil.copy(FileSet(root=mnist_root).path / file.name, raw)
    ensure_files(FileSet(root=tmp_path, mirrors=[]))
    assert len(list(raw.iterdir())) == 4


def test_checksums_and_mirrors_match_torchvision() -> None:
    ours = [(f"{file.name}.gz", file.archive_md5) for file in MNIST_FILES.values()]
    assert ours == torchvision.datasets.MNIST.resources
    assert torchvision_mirrors() == torchvision.datasets.MNIST.mirrors


@pytest.mark.parametrize("name", ["FashionMNIST", "KMNIST"])
def test_the_yaml_file_of_another_data_set_matches_torchvision(name: str) -> None:
    theirs = getattr(torchvision.datasets, name)
    config = compose_config(f"data={'kmnist' if name == 'KMNIST' else 'fashion_mnist'}").data
    files = FileSet.from_options(config.options)
    assert [(f"{file.name}.gz", file.archive_md5) for file in files.files.values()] == theirs.resources
    assert list(files.mirrors or []) == theirs.mirrors
    assert list(config.classes) == theirs.classes
    assert files.path == Path(files.root) / name / "raw"


def test_torchvision_can_read_a_downloaded_folder(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    ensure_files(FileSet(root=tmp_path / "new", mirrors=[mirror(archives).url]))
    assert find_faults(FileSet(root=tmp_path / "new")) == {}
    assert len(torchvision.datasets.MNIST(str(tmp_path / "new"), train=False)) == 10_000


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def swap_with_labels(path: Path) -> None:
    shutil.copy(path.with_name("train-labels-idx1-ubyte"), path)


@pytest.mark.parametrize(
    "damage", slow_except([truncate, flip_a_bit, empty, swap_with_labels, Path.unlink], flip_a_bit)
)
@pytest.mark.parametrize("has_archives", [True, False])
def test_a_damaged_unpacked_file_is_detected_and_replaced(
    damage: Callable[[Path], None], has_archives: bool, downloaded: FileSet, archives: Path, mirror: Serve
) -> None:
    damage(downloaded.path / "train-images-idx3-ubyte")
    assert list(find_faults(downloaded)) == ["train-images-idx3-ubyte"]
    if not has_archives:
        for archive in downloaded.path.glob("*.gz"):
            archive.unlink()
    server = mirror(archives)
    ensure_files(replace(downloaded, mirrors=[server.url]))
    assert find_faults(downloaded) == {}
    assert server.requests == ([] if has_archives else ["/train-images-idx3-ubyte.gz"])


@pytest.mark.parametrize("damage", slow_except([truncate, flip_a_bit, empty], truncate))
def test_a_damaged_archive_is_downloaded_again(
    damage: Callable[[Path], None], downloaded: FileSet, archives: Path, mirror: Serve
) -> None:
    (downloaded.path / "t10k-images-idx3-ubyte").unlink()
    damage(downloaded.path / "t10k-images-idx3-ubyte.gz")
    server = mirror(archives)
    ensure_files(replace(downloaded, mirrors=[server.url]))
    assert find_faults(downloaded) == {}
    assert server.requests == ["/t10k-images-idx3-ubyte.gz"]


def test_bad_mirrors_are_skipped(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    for file in MNIST_FILES.values():
        (garbage / f"{file.name}.gz").write_bytes(gzip.compress(b"<html>sign in</html>"))
    ensure_files(
        FileSet(root=tmp_path / "new", mirrors=["http://127.0.0.1:9/", mirror(garbage).url, mirror(archives).url])
    )
    assert find_faults(FileSet(root=tmp_path / "new")) == {}


def test_if_all_mirrors_fail_the_error_names_each_with_its_reason(mirror: Serve, tmp_path: Path) -> None:
    garbage, nothing = tmp_path / "garbage", tmp_path / "nothing"
    garbage.mkdir()
    nothing.mkdir()
    (garbage / "train-images-idx3-ubyte.gz").write_bytes(b"not an archive")
    urls = ["http://127.0.0.1:9", mirror(nothing).url, mirror(garbage).url, "no-url"]
    with pytest.raises(DataUnavailable) as caught:
        ensure_files(FileSet(root=tmp_path / "new", mirrors=urls))
    message = str(caught.value)
    assert all(url.rstrip("/") in message for url in urls)
    assert all(file.name in message for file in MNIST_FILES.values())
    assert str(FileSet(root=tmp_path / "new").path) in message
    assert "refused" in message
    assert "HTTP 404" in message
    assert "MD5" in message
    assert not list(FileSet(root=tmp_path / "new").path.glob("*ubyte*")), "no partial file is left"


@pytest.mark.slow
def test_processes_that_start_together_download_once(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    server = mirror(archives)
    new = str(tmp_path / "new")
    code = f"from mnist_lit.data.files import *; ensure_files(FileSet(root={new!r}, mirrors=[{server.url!r}]))"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert find_faults(FileSet(root=tmp_path / "new")) == {}
    assert sorted(server.requests) == sorted(f"/{file.name}.gz" for file in MNIST_FILES.values())


@pytest.mark.parametrize(
    "content", [b"<html>Log in first</html>", gzip.compress(bytes(1000))[:20]], ids=["page", "cut off"]
)
def test_a_download_that_is_no_archive_is_an_error_that_the_next_start_repairs(
    content: bytes, archives: Path, mirror: Serve, tmp_path: Path
) -> None:
    """A data set of one's own may name no checksums, and a network may ask for a login."""
    files = {role: DataFile(file.name) for role, file in MNIST_FILES.items()}
    good = {path: path.read_bytes() for path in archives.iterdir()}
    for path in good:
        path.write_bytes(content)
    own = FileSet(name="own", root=tmp_path / "own", files=files, mirrors=[mirror(archives).url])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz: is not a complete .gz file"):
        ensure_files(own)
    for path, whole in good.items():
        path.write_bytes(whole)
    ensure_files(own)
    assert not find_faults(FileSet(root=tmp_path / "own"))
