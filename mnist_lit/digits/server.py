"""The server of the demo: a page to draw on, and an API that reads pictures.

It refuses pictures over 5 MB and closes connections of clients that do not finish their request."""

import asyncio
import socket
import time
from functools import partial
from importlib.resources import files
from typing import Any

import h11
import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mnist_lit.digits.picture_file import BadPicture
from mnist_lit.digits.picture_predictions import LEAST_PROBABILITY
from mnist_lit.digits.preparation import prepare_many
from mnist_lit.digits.saliency import measure_saliency
from mnist_lit.digits.trained_network import Network

LARGEST_BODY = 5_000_000  # bytes
REQUEST_TIMEOUT = 10.0  # seconds for a request's header, and again for its body
PARALLEL = 2  # pictures that are read at the same time; more would need more memory
MOST_DIGITS = 20  # digits of one picture that are returned
CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ReadDigit(BaseModel):
    """`is_digit` is false if it is probably no digit. `pixels` are 0 to 255, `saliency` is -100 (against the
    prediction) to 100 (for it): 28 × 28 values row by row."""

    prediction: int
    is_digit: bool
    probabilities: list[float]
    pixels: list[int]
    saliency: list[int]


class Answer(BaseModel):
    digits: list[ReadDigit]
    milliseconds: float


class ErrorMessage(BaseModel):
    error: str


def build_app(network: Network, hosts: list[str]) -> FastAPI:
    """`hosts` are the allowed host names in requests. So a website cannot reach this server under its own name (DNS
    rebinding)."""
    app = FastAPI(title="mnist-lit demo", docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    page = files("mnist_lit.digits").joinpath("page.html").read_text("utf-8")
    limiter = CapacityLimiter(PARALLEL)

    @app.get("/", response_class=HTMLResponse)
    async def get_page() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/api/network")
    async def get_network() -> dict[str, str]:
        return {"about": network.about}

    errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorMessage} for code in (408, 413, 422)}
    body = {
        "required": True,
        "content": {content_type: {"schema": {"type": "string", "format": "binary"}} for content_type in CONTENT_TYPES},
    }

    @app.post("/api/read", response_model=Answer, responses=errors, openapi_extra={"requestBody": body})
    async def read_picture(request: Request) -> Any:
        """The digits in a picture, line by line."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                content = await _receive_body(request)
        except TimeoutError:
            return _error(408, f"the picture did not arrive within {REQUEST_TIMEOUT:.0f} seconds")
        except ClientDisconnect:
            return _error(408, "the client closed the connection")
        if content is None:
            return _error(413, f"the picture is larger than {LARGEST_BODY // 1_000_000} MB")
        try:
            return await to_thread.run_sync(partial(read_digits, network, content), limiter=limiter)
        except BadPicture as error:
            return _error(422, f"the picture {error}")

    return app


async def _receive_body(request: Request) -> bytes | None:
    """None if the body is too large. The rest of it is not received then."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            return None
    return bytes(content)


def read_digits(network: Network, content: bytes) -> Answer:
    """Raises BadPicture if there is no digit to read."""
    started = time.perf_counter()
    pixels = np.stack([digit.pixels for digit in prepare_many(content)[:MOST_DIGITS]])
    probabilities = network(pixels)
    predictions = probabilities.argmax(1)
    saliency = np.rint(100 * measure_saliency(network, pixels, predictions)).astype(int)
    digits = [
        ReadDigit(
            prediction=int(prediction),
            is_digit=bool(values.max() >= LEAST_PROBABILITY),
            probabilities=[round(float(value), 6) for value in values],
            pixels=picture.ravel().tolist(),
            saliency=contributions.ravel().tolist(),
        )
        for prediction, values, picture, contributions in zip(predictions, probabilities, pixels, saliency, strict=True)
    ]
    return Answer(digits=digits, milliseconds=round(1000 * (time.perf_counter() - started), 2))


def _error(code: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, code)


class TimeoutProtocol(H11Protocol):
    """uvicorn's protocol with a timeout for clients that connect and send no complete header. uvicorn has none."""

    header_timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        # Without this the end of a response waits 40 ms for the client to acknowledge its beginning.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._limit_header_time()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._limit_header_time()

    def _limit_header_time(self) -> None:
        # The answer is complete, and the body of the request is not.
        answered = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        waiting = self.conn.their_state is h11.IDLE or answered
        if waiting and self.header_timeout is None:
            self.header_timeout = self.loop.call_later(REQUEST_TIMEOUT, self.transport.close)
        elif not waiting and self.header_timeout is not None:
            self.header_timeout.cancel()
            self.header_timeout = None


def serve(app: ASGIApp, listener: Any) -> None:
    """Serve on this socket until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(app, http=TimeoutProtocol, ws="none", log_level="warning", timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
