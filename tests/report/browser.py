"""Controls a headless Chromium through the DevTools protocol over two pipes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """A context manager for one page; `errors` collects console output, exceptions and network requests of the page."""

    def __enter__(self) -> Browser:
        self.errors: list[str] = []
        self._numbers = itertools.count(1)
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        # Chromium reads commands from descriptor 3 and writes answers to 4; the shell puts the pipes there.
        command = (
            f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars "
            f"--remote-debugging-pipe --user-data-dir={self._profile.name} about:blank 3<&{read} 4>&{write}"
        )
        with open(os.devnull, "w") as devnull:
            self._process = subprocess.Popen(
                ["bash", "-c", command], pass_fds=(read, write), stdout=devnull, stderr=devnull
            )
        os.close(read)
        os.close(write)
        self._answers = os.fdopen(self._read, "rb")
        self._session = ""
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *error: object) -> None:
        self._session = ""
        os.write(self._write, b'{"id": 0, "method": "Browser.close"}\0')
        self._process.wait(30)
        self._answers.close()
        os.close(self._write)
        self._profile.cleanup()

    def open(
        self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light", media: str = "screen"
    ) -> None:
        """Opens a file in a window of a size in pixels, for the media type `screen` or `print`."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Page.navigate", url=path.resolve().as_uri())
        while self.evaluate("document.readyState") != "complete":
            pass

    def evaluate(self, script: str) -> Any:
        """Evaluates a JavaScript expression in the page and returns its value."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Sends a `mouseMoved`, `mousePressed` or `mouseReleased` event at a point in the window."""
        pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def key(self, name: str) -> None:
        """Presses and releases a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a DevTools command and returns its answer; events before the answer are checked for errors."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._receive())
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event in ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled"):
            self.errors.append(f"{event}: {json.dumps(params)[:500]}")
        url = params["request"]["url"] if event == "Network.requestWillBeSent" else "about:"
        if not url.startswith(("file:", "data:", "about:")):
            self.errors.append(f"network request: {url}")

    def _receive(self) -> bytes:
        parts = []
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "Chromium ended"
            parts.append(byte)
        return b"".join(parts)
