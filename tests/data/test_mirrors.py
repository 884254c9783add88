"""Bad mirrors and full disks: errors name each failure, the next mirror is used, and no partial file stays."""

import gzip
import hashlib
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mnist_lit.data import files
from mnist_lit.data.files import DataFile, DataUnavailable, FileSet, ensure_files, find_faults

CONTENT = random.Random(0).randbytes(300_000)
ARCHIVE = gzip.compress(CONTENT, mtime=0)
FILE = DataFile("train-images-idx3-ubyte", hashlib.md5(ARCHIVE).hexdigest(), hashlib.md5(CONTENT).hexdigest())


def file_set(root: Path, *mirrors: str) -> FileSet:
    """A data set with one small archive, which stands for MNIST."""
    return FileSet(root=root, files={"train_images": FILE}, mirrors=mirrors)


Behavior = Callable[[BaseHTTPRequestHandler, bytes], None]


def error_500(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(500)


def error_404(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(404)


def garbage(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), bytes(len(archive)))


def longer_than_announced(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive) - 1000, archive)


def closes_the_connection_half_way(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), archive[: len(archive) // 2])


def sends_nothing(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    time.sleep(2)


def stops_sending_half_way(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), archive[: len(archive) // 2])
    request.wfile.flush()
    time.sleep(2)


def is_no_http_server(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def invalid_length(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "many")
    request.end_headers()
    request.wfile.write(archive[1:])


def redirects_to_itself(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", request.path)
    request.end_headers()


def answer(request: BaseHTTPRequestHandler, announced: int, content: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(announced))
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def mirror() -> Iterator[Callable[[Behavior], str]]:
    """Starts a server that sends the archive with the given behavior, and returns its URL."""
    opened = []

    def serve(behavior: Behavior) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                behavior(self, ARCHIVE)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in opened:
        server.shutdown()
        server.server_close()


def good(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), archive)


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        (error_404, "HTTP 404"),
        (error_500, "HTTP 500"),
        (garbage, "MD5"),
        (longer_than_announced, "MD5"),
        (closes_the_connection_half_way, "the connection broke after 150,"),
        (sends_nothing, "timed out"),
        (stops_sending_half_way, "timed out"),
        (is_no_http_server, "SSH-2.0"),
        (invalid_length, "MD5"),
        (redirects_to_itself, "redirect"),
    ],
)
def test_a_failed_mirror_is_named_and_the_next_one_is_used(
    behavior: Behavior,
    reason: str,
    mirror: Callable[[Behavior], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(files, "TIMEOUT", 0.5)
    bad = mirror(behavior)
    with pytest.raises(DataUnavailable) as caught:
        ensure_files(file_set(tmp_path, bad))
    assert bad in str(caught.value)
    assert reason in str(caught.value)
    assert not [path for path in file_set(tmp_path).path.iterdir() if path.name != ".lock"], "no partial file is left"

    ensure_files(file_set(tmp_path, bad, mirror(good)))
    assert find_faults(file_set(tmp_path)) == {}


def test_a_full_disk_at_a_download_is_one_clear_error(mirror: Callable[[Behavior], str], tmp_path: Path) -> None:
    code = f"""
from mnist_lit.data import files
files_of_set = {{"train_images": files.DataFile(*{tuple(FILE)!r})}}
try:
    files.ensure_files(files.FileSet(root={str(tmp_path)!r}, files=files_of_set, mirrors=[{mirror(good)!r}]))
except files.DataUnavailable as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "cannot be written" in done.stdout
    assert str(file_set(tmp_path).path) in done.stdout
    assert not done.stderr
    assert not list(file_set(tmp_path).path.glob("*ubyte*"))
    assert not list(file_set(tmp_path).path.glob(".*ubyte*")), "no partial file is left"
