"""A server that answers W&B's client, so that a test can stop it in the middle of a run."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = {"id": "1", "name": "run", "displayName": "run", "config": "{}", "historyLineCount": 0}
ANSWER = {
    "data": {
        "viewer": {"id": "1", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
        "serverInfo": {"cliVersionInfo": {}, "features": []},
        "upsertBucket": {"bucket": BUCKET | {"project": {"name": "mnist-lit", "entity": {"name": "me"}}}},
    }
}


class WandbHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = json.dumps(ANSWER).encode()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve_wandb() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), WandbHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
