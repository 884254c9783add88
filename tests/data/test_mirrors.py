"""Mirrors and disks that misbehave: each failure is named, the next mirror is tried, nothing half-made stays."""

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
from mnist_lit.data.files import FILES, MNISTUnavailable, ensure_mnist, faults, raw_folder

pytestmark = pytest.mark.mnist

Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


def error_500(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(500)


def error_404(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    request.send_error(404)


def garbage(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive), b"\x00\xff" * (len(archive) // 2))


def shorter_than_announced(request: BaseHTTPRequestHandler, archive: bytes) -> None:
    answer(request, len(archive) + 1000, archive)


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
    request.wfile.write(archive)


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
def mirror(mnist_root: str) -> Iterator[Callable[[Behaviour], str]]:
    """Serves the real archives, in the way that it is told to."""
    opened = []

    def serve(behaviour: Behaviour) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                archive = raw_folder(mnist_root) / self.path.removeprefix("/")
                if not archive.exists():
                    archive = next(raw_folder(mnist_root).glob("t10k-labels*.gz"), Path(__file__))
                behaviour(self, archive.read_bytes())

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
        (shorter_than_announced, "bytes"),
        (longer_than_announced, "MD5"),
        (drops_the_line_half_way, "bytes"),
        (says_nothing, "timed out"),
        (falls_silent_half_way, "timed out"),
        (no_http, "SSH-2.0"),
        (absurd_length, "Content-Length"),
        (redirects_in_circles, "redirect"),
    ],
)
def test_a_failure_is_named_and_the_next_mirror_tried(
    behaviour: Behaviour,
    reason: str,
    mirror: Callable[[Behaviour], str],
    mnist_root: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if not (raw_folder(mnist_root) / f"{FILES[0].name}.gz").exists():
        pytest.skip("the data folder holds no archives to serve")
    monkeypatch.setattr(files, "TIMEOUT", 0.5)
    bad = mirror(behaviour)
    with pytest.raises(MNISTUnavailable) as caught:
        ensure_mnist(tmp_path, [bad])
    assert bad in str(caught.value)
    assert reason in str(caught.value)
    assert not [path for path in raw_folder(tmp_path).iterdir() if path.name != ".lock"], "nothing half-made is left"

    monkeypatch.setattr(files, "TIMEOUT", 0.1)
    ensure_mnist(tmp_path, [bad, mirror(good)])
    assert faults(tmp_path) == {}


def test_a_disk_too_full_for_the_download_is_named(mirror: Callable[[Behaviour], str], tmp_path: Path) -> None:
    code = f"""
from mnist_lit.data.files import *
try:
    ensure_mnist({str(tmp_path)!r}, [{mirror(good)!r}])
except MNISTUnavailable as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert "cannot be written" in done.stdout
    assert str(raw_folder(tmp_path)) in done.stdout
    assert not done.stderr
    assert not list(raw_folder(tmp_path).glob("*ubyte*"))
    assert not list(raw_folder(tmp_path).glob(".*ubyte*")), "what was half written is gone"
