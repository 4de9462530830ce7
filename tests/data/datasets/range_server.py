"""A local web server that serves byte ranges, counts its requests, and can be made to fail."""

from __future__ import annotations

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 9, 11, 3), dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)  # 270 kB as PNG


class Handler(BaseHTTPRequestHandler):
    """Serves byte ranges of the files in the folder of its server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        server, path = self.server, self.server.folder / self.path.lstrip("/")
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if server.ranges else None
        server.requests.append((self.command, self.path))
        time.sleep(server.delay)
        if server.barrier and span:
            server.barrier.wait(timeout=10)
        if server.failures and span:
            return self.send_error(server.failures.pop())
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        size = len(content)
        if span:
            content = content[int(span[1]) : int(span[2]) + 1 - server.short]
        self.send_response(206 if span else 200)
        if server.sends_size:
            self.send_header("Content-Length", str(len(content)))
        if server.sends_version:
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}"')
        if span:
            self.send_header("Content-Range", f"bytes {span[1]}-{span[2]}/{size}")
        self.end_headers()
        if self.command == "GET":
            server.sent += len(content)
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """A server of the files in a folder.

    Attributes:
        ranges: Whether byte ranges are supported.
        sends_size: Whether responses have a Content-Length.
        sends_version: Whether responses have an ETag.
        short: Number of bytes missing at the end of each range.
        sent: Number of bytes sent so far.
        delay: Seconds before each response.
        barrier: Lets range requests pass only in groups.
        requests: Method and path of each request.
        failures: Status codes of the next range requests.
    """

    request_queue_size = 64
    ranges, sends_size, sends_version, short, sent, delay = True, True, True, 0, 0, 0.0
    barrier: threading.Barrier | None = None

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.requests, self.failures = folder, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def new_methods(self):
        """Returns the methods of the requests since the last call."""
        methods = {method for method, _ in self.requests}
        self.requests.clear()
        return methods

    def handle_error(self, *_):
        """Ignores clients that close their connection."""
