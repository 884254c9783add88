"""The download: what arrives is verified, damage is noticed and mended, failures are named."""

import gzip
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from benchmarks.mirror import Mirror
from mnist_lit.data.files import FILES, MNISTUnavailable, ensure_mnist, faults, raw_folder, torchvision_mirrors

pytestmark = pytest.mark.mnist
Serve = Callable[[Path], Mirror]


@pytest.fixture
def archives(mnist_root: str, tmp_path: Path) -> Path:
    """The four real archives, packed in this session if the data folder holds only the unpacked files."""
    folder = tmp_path / "archives"
    folder.mkdir()
    for file in FILES:
        packed = raw_folder(mnist_root) / f"{file.name}.gz"
        if not packed.exists():
            pytest.skip("the data folder holds no archives to serve")
        shutil.copy(packed, folder)
    return folder


@pytest.fixture
def copy(mnist_root: str, tmp_path: Path) -> Path:
    """A data folder of one's own to damage: the unpacked files alone."""
    raw = raw_folder(tmp_path / "copy")
    raw.mkdir(parents=True)
    for file in FILES:
        shutil.copy(raw_folder(mnist_root) / file.name, raw)
    return tmp_path / "copy"


def test_checksums_are_torchvisions() -> None:
    ours = [(f"{file.name}.gz", file.archive_md5) for file in FILES]
    assert ours == torchvision.datasets.MNIST.resources
    assert torchvision_mirrors() == torchvision.datasets.MNIST.mirrors


def test_download_into_an_empty_folder_serves_torchvision_too(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    ensure_mnist(tmp_path / "new", [mirror(archives).url])
    assert faults(tmp_path / "new") == {}
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


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, swap_with_labels, Path.unlink])
def test_damage_to_an_unpacked_file_is_noticed_and_mended(
    damage: Callable[[Path], None], copy: Path, archives: Path, mirror: Serve
) -> None:
    damage(raw_folder(copy) / "train-images-idx3-ubyte")
    assert list(faults(copy)) == ["train-images-idx3-ubyte"]
    server = mirror(archives)
    ensure_mnist(copy, [server.url])
    assert faults(copy) == {}
    assert server.requests == ["/train-images-idx3-ubyte.gz"]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_archive_is_fetched_again(
    damage: Callable[[Path], None], archives: Path, mirror: Serve, tmp_path: Path
) -> None:
    raw = raw_folder(tmp_path / "new")
    shutil.copytree(archives, raw)
    damage(raw / "t10k-images-idx3-ubyte.gz")
    server = mirror(archives)
    ensure_mnist(tmp_path / "new", [server.url])
    assert faults(tmp_path / "new") == {}
    assert server.requests == ["/t10k-images-idx3-ubyte.gz"]


def test_a_bad_mirror_is_passed_over_and_a_good_one_used(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.mkdir()
    for file in FILES:
        (garbage / f"{file.name}.gz").write_bytes(gzip.compress(b"<html>sign in</html>"))
    ensure_mnist(tmp_path / "new", ["http://127.0.0.1:9/", mirror(garbage).url, mirror(archives).url])
    assert faults(tmp_path / "new") == {}


def test_when_all_mirrors_fail_each_is_named_with_its_reason(mirror: Serve, tmp_path: Path) -> None:
    garbage, nothing = tmp_path / "garbage", tmp_path / "nothing"
    garbage.mkdir()
    nothing.mkdir()
    (garbage / "train-images-idx3-ubyte.gz").write_bytes(b"not an archive")
    urls = ["http://127.0.0.1:9", mirror(nothing).url, mirror(garbage).url, "no-url"]
    with pytest.raises(MNISTUnavailable) as caught:
        ensure_mnist(tmp_path / "new", urls)
    message = str(caught.value)
    assert all(url.rstrip("/") in message for url in urls)
    assert all(file.name in message for file in FILES)
    assert str(raw_folder(tmp_path / "new")) in message
    assert "refused" in message
    assert "HTTP 404" in message
    assert "MD5" in message
    assert not list(raw_folder(tmp_path / "new").glob("*ubyte*")), "nothing half-made is left"


def test_processes_that_start_at_once_download_once(archives: Path, mirror: Serve, tmp_path: Path) -> None:
    server = mirror(archives)
    code = f"from mnist_lit.data.files import *; ensure_mnist({str(tmp_path / 'new')!r}, [{server.url!r}])"
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) for _ in range(8)]
    assert [process.wait() for process in processes] == [0] * 8
    assert faults(tmp_path / "new") == {}
    assert sorted(server.requests) == sorted(f"/{file.name}.gz" for file in FILES)
