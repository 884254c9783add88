"""The page's server: one page, one question. Takes no picture over 5 MB, and waits for no one."""

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

from mnist_lit.digits.checkpoint import CheckpointNetwork
from mnist_lit.digits.picture import BadPicture
from mnist_lit.digits.prepare import prepare_many
from mnist_lit.digits.saliency import saliency

LARGEST_BODY = 5_000_000  # bytes
PATIENCE = 10.0  # seconds for a request's header, and again for its body
AT_ONCE = 2  # pictures in the works; the others wait, so that their memory is not needed all at once
MOST_DIGITS = 20  # of a picture, that are answered
KINDS = ("image/png", "image/jpeg", "image/webp", "application/octet-stream")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class ReadDigit(BaseModel):
    """`pixels` and `saliency` are 28 rows of 28: 0 to 255, and -100 (spoke against the answer) to 100 (for it)."""

    prediction: int
    probabilities: list[float]
    pixels: list[int]
    saliency: list[int]


class Answer(BaseModel):
    digits: list[ReadDigit]
    milliseconds: float


class Refusal(BaseModel):
    error: str


def build_app(network: CheckpointNetwork, hosts: list[str]) -> FastAPI:
    """`hosts` are the names that requests may call this server by; a page elsewhere cannot then pose as this one."""
    app = FastAPI(title="mnist-lit demo", docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    page = files("mnist_lit.digits").joinpath("page.html").read_text("utf-8")
    limiter = CapacityLimiter(AT_ONCE)

    @app.get("/", response_class=HTMLResponse)
    async def drawing_page() -> HTMLResponse:
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/api/network")
    async def about() -> dict[str, str]:
        return {"about": network.about}

    refusals: dict[int | str, dict[str, Any]] = {code: {"model": Refusal} for code in (408, 413, 422)}
    body = {"required": True, "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in KINDS}}

    @app.post("/api/read", response_model=Answer, responses=refusals, openapi_extra={"requestBody": body})
    async def read(request: Request) -> Any:
        """The digits in a picture, line by line."""
        try:
            async with asyncio.timeout(PATIENCE):
                content = await _body(request)
        except TimeoutError:
            return _refused(408, f"the picture did not arrive within {PATIENCE:.0f} seconds")
        except ClientDisconnect:
            return _refused(408, "the client went away")
        if content is None:
            return _refused(413, f"the picture is larger than {LARGEST_BODY // 1_000_000} MB")
        try:
            return await to_thread.run_sync(partial(answer, network, content), limiter=limiter)
        except BadPicture as error:
            return _refused(422, f"the picture {error}")

    return app


async def _body(request: Request) -> bytes | None:
    """None if there is more of it than is taken; what is too much is not even received."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            return None
    return bytes(content)


def answer(network: CheckpointNetwork, content: bytes) -> Answer:
    """Raises BadPicture if there is no digit to be read."""
    started = time.perf_counter()
    pixels = np.stack([digit.pixels for digit in prepare_many(content)[:MOST_DIGITS]])
    probabilities = network(pixels)
    predictions = probabilities.argmax(1)
    spoke = np.rint(100 * saliency(network.reader, pixels, predictions)).astype(int)
    digits = [
        ReadDigit(
            prediction=int(prediction),
            probabilities=[round(float(share), 6) for share in shares],
            pixels=picture.ravel().tolist(),
            saliency=reasons.ravel().tolist(),
        )
        for prediction, shares, picture, reasons in zip(predictions, probabilities, pixels, spoke, strict=True)
    ]
    return Answer(digits=digits, milliseconds=round(1000 * (time.perf_counter() - started), 2))


def _refused(code: int, why: str) -> JSONResponse:
    return JSONResponse({"error": why}, code)


class ImpatientProtocol(H11Protocol):
    """uvicorn's own, but for clients that connect and then do not ask, which it would wait for for ever."""

    due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        # Else the end of an answer waits for the client to acknowledge its beginning, which takes 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._await_header()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_header()

    def _await_header(self) -> None:
        waiting = self.conn.their_state is h11.IDLE
        if waiting and self.due is None:
            self.due = self.loop.call_later(PATIENCE, self.transport.close)
        elif not waiting and self.due is not None:
            self.due.cancel()
            self.due = None


def serve(app: ASGIApp, listener: Any) -> None:
    """Answer on this socket until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(app, http=ImpatientProtocol, ws="none", log_level="warning", timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return
