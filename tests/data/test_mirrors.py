"""Mirrors and disks that misbehave: each failure is named, the next mirror is tried, nothing half-made stays."""

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
from mnist_lit.data.files import MNISTFile, MNISTUnavailable, ensure_mnist, faults, raw_folder

CONTENT = random.Random(0).randbytes(300_000)
ARCHIVE = gzip.compress(CONTENT, mtime=0)
FILE = MNISTFile("train-images-idx3-ubyte", hashlib.md5(ARCHIVE).hexdigest(), hashlib.md5(CONTENT).hexdigest())
Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


def error_500(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(500)


def error_404(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(404)


def garbage(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), bytes(len(archive)))


def longer_than_announced(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive) - 1000, archive)


def drops_the_line_half_way(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), archive[: len(archive) // 2])


def says_nothing(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    time.sleep(2)


def falls_silent_half_way(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), archive[: len(archive) // 2])
    request.wfile.flush()
    time.sleep(2)


def no_http(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


def absurd_length(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "many")
    request.end_headers()
    request.wfile.write(archive[1:])


def redirects_in_circles(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_response(302)
    request.send_header("Location", request.path)
    request.end_headers()


def answer(request: BaseHTTPRequestHandler, announced: int, content: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(announced))
    request.end_headers()
    request.wfile.write(content)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Behaviour], str]]:
    """Serves one small archive, which stands for all of MNIST here, in the way that it is told to."""
    monkeypatch.setattr(files, "FILES", (FILE,))
    opened = []

    def serve(behaviour: Behaviour) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                behaviour(self, ARCHIVE)

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
    ("behaviour", "reason"),
    [
        (error_404, "HTTP 404"),
        (error_500, "HTTP 500"),
        (garbage, "MD5"),
        (longer_than_announced, "MD5"),
        (drops_the_line_half_way, "the line broke after 150,"),
        (says_nothing, "timed out"),
        (falls_silent_half_way, "timed out"),
        (no_http, "SSH-2.0"),
        (absurd_length, "MD5"),
        (redirects_in_circles, "redirect"),
    ],
)
def test_a_failure_is_named_and_the_next_mirror_tried(
    behaviour: Behaviour,
    reason: str,
    mirror: Callable[[Behaviour], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(files, "TIMEOUT", 0.5)
    bad = mirror(behaviour)
    with pytest.raises(MNISTUnavailable) as caught:
        ensure_mnist(tmp_path, [bad])
    assert bad in str(caught.value)
    assert reason in str(caught.value)
    assert not [path for path in raw_folder(tmp_path).iterdir() if path.name != ".lock"], "nothing half-made is left"

    ensure_mnist(tmp_path, [bad, mirror(good)])
    assert faults(tmp_path) == {}


def test_a_disk_too_full_for_the_download_is_named(mirror: Callable[[Behaviour], str], tmp_path: Path) -> None:
    code = f"""
from mnist_lit.data import files
files.FILES = (files.MNISTFile(*{tuple(FILE)!r}),)
try:
    files.ensure_mnist({str(tmp_path)!r}, [{mirror(good)!r}])
except files.MNISTUnavailable as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "cannot be written" in done.stdout
    assert str(raw_folder(tmp_path)) in done.stdout
    assert not done.stderr
    assert not list(raw_folder(tmp_path).glob("*ubyte*"))
    assert not list(raw_folder(tmp_path).glob(".*ubyte*")), "what was half written is gone"
