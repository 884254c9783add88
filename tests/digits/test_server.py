"""The demo's server: it reads pictures, refuses bad requests, times out slow clients, and never fails."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.digits import server
from mnist_lit.digits.picture_predictions import LEAST_PROBABILITY
from mnist_lit.digits.saliency import measure_saliency
from mnist_lit.digits.trained_network import CheckpointNetwork
from mnist_lit.errors import UserError
from tests.digits.picture_styles import STYLES
from tests.digits.test_bad_pictures import BAD
from tests.digits.test_preparation import photograph_digits

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
PICTURE = STYLES["photo"](3, np.random.default_rng(0))
STYLE = some.sampled_from(["photo", "thick", "palette", "cmyk", "on transparent", "sixteen bit", "lying on its side"])
PICTURES = {style: make(3, np.random.default_rng(0)) for style, make in STYLES.items()}


@pytest.fixture(scope="module")
def network(small_run: Path) -> CheckpointNetwork:
    return CheckpointNetwork(small_run)


@pytest.fixture
def client(network: CheckpointNetwork) -> TestClient:
    return TestClient(server.build_app(network, ["127.0.0.1"]), base_url="http://127.0.0.1")


@pytest.fixture
def address(network: CheckpointNetwork, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server like that of `mnist-lit demo`, with a shorter timeout."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 1.0)
    listener = socket.create_server(("127.0.0.1", 0))
    demo = server.build_app(network, ["127.0.0.1"])
    running = uvicorn.Server(uvicorn.Config(demo, http=server.TimeoutProtocol, ws="none", log_level="error"))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield listener.getsockname()
    running.should_exit = True
    thread.join(10)
    listener.close()


def test_an_answer_holds_predictions_pixels_and_saliency(client: TestClient, network: CheckpointNetwork) -> None:
    (digit,) = client.post("/api/read", content=PICTURE).json()["digits"]
    pixels = np.array(digit["pixels"], np.uint8).reshape(1, 28, 28)
    assert np.allclose(digit["probabilities"], network(pixels)[0], atol=1e-5)
    assert digit["prediction"] == int(np.argmax(digit["probabilities"]))
    assert digit["is_digit"] == (max(digit["probabilities"]) >= LEAST_PROBABILITY)
    assert max(map(abs, digit["saliency"])) == 100
    assert all(pixel or not value for pixel, value in zip(digit["pixels"], digit["saliency"], strict=True))
    assert len(client.post("/api/read", content=photograph_digits([4, 0, 5], seed=3)[0]).json()["digits"]) == 3
    assert client.get("/api/network").json() == {"about": network.about}


def test_the_prediction_needs_the_pixels_with_the_highest_saliency(network: CheckpointNetwork) -> None:
    digit = server.prepare_many(PICTURE)[0].pixels
    prediction = network(digit[None]).argmax(1)
    order = measure_saliency(network, digit[None], prediction)[0].ravel().argsort()
    probabilities = []
    for removed in (order[-40:], order[:40]):
        without = digit.copy().ravel()
        without[removed] = 0
        probabilities.append(network(without.reshape(1, 28, 28))[0, prediction[0]])
    assert probabilities[0] < probabilities[1]


@pytest.mark.parametrize("name", list(BAD))
def test_bad_pictures_are_refused_with_the_reason(client: TestClient, name: str) -> None:
    content, message = BAD[name]
    reply = client.post("/api/read", content=content)
    assert reply.status_code == 422
    assert message in reply.json()["error"]


def test_bodies_over_5_mb_are_refused(client: TestClient) -> None:
    assert client.post("/api/read", content=PICTURE + bytes(server.LARGEST_BODY)).status_code == 413
    assert client.post("/api/read", content=PICTURE + bytes(4_000_000)).status_code == 200


def test_a_port_in_use_is_an_error(small_run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["demo", str(small_run), "--port", str(taken.getsockname()[1])]
        with pytest.raises(UserError, match="cannot listen there"):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_other_host_names_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


class AddressParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_loads_nothing_from_other_hosts(client: TestClient) -> None:
    reply = client.get("/")
    parser = AddressParser()
    parser.feed(reply.text)
    assert parser.addresses == ["data:,"]
    assert "default-src 'none'" in reply.headers["content-security-policy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0",
        b"POST /api/read HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nxyz",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nxyz",
    ],
    ids=["nothing", "half a header", "half a body", "half a body that nobody reads"],
)
def test_a_client_that_does_not_finish_its_request_is_disconnected(address: tuple[str, int], sent: bytes) -> None:
    started = time.monotonic()
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall(sent)
        reply = connection.recv(1000)
        if reply:
            with suppress(ConnectionError):
                connection.sendall(b"x")  # a client that goes on after the answer
        while chunk := connection.recv(1000):
            reply += chunk
    assert time.monotonic() - started < 20
    assert reply == b"" or reply.split()[1] in (b"408", b"200")


@pytest.mark.slow
def test_slow_clients_do_not_block_fifty_others(address: tuple[str, int]) -> None:
    slow = [socket.create_connection(address) for _ in range(20)]

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url="http://{}:{}".format(*address), limits=limits, timeout=60) as client:
            return await asyncio.gather(*(client.post("/api/read", content=PICTURE) for _ in range(50)))

    replies = asyncio.run(ask())
    assert [reply.status_code for reply in replies] == [200] * 50
    for connection in slow:
        connection.close()


@pytest.mark.slow
def test_the_api_matches_its_schema_for_generated_requests(network: CheckpointNetwork) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", server.build_app(network, ["*"]))
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    requests = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        strategies = [operation.as_strategy(generation_mode=mode) for mode in modes]

        @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=some.one_of(strategies))
        def attempt(case: schemathesis.Case) -> None:
            nonlocal requests
            requests += 1
            case.call_and_validate(checks=CHECKS)

        attempt()
    assert requests >= 300


@pytest.mark.slow
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(changes=some.dictionaries(some.integers(0, 400), some.integers(0, 255), min_size=1, max_size=8), style=STYLE)
def test_damaged_pictures_never_cause_a_server_error(client: TestClient, changes: dict[int, int], style: str) -> None:
    """The bytes near the beginning are changed, because they hold the format's header."""
    content = bytearray(PICTURES[style])
    for place, value in changes.items():
        content[place % len(content)] = value
    assert client.post("/api/read", content=bytes(content)).status_code in (200, 422)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"G" * 100_000, b"\0" * 100 + b"\r\n\r\n"])
def test_a_request_that_is_no_http_does_not_stop_the_server(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address, timeout=30) as connection, suppress(ConnectionError):
        connection.sendall(sent)
        assert connection.recv(1000).startswith((b"HTTP/1.1 4", b""))
    assert httpx.get("http://{}:{}/".format(*address)).status_code == 200
