"""A real Chromium, driven by its own protocol over two pipes: no driver to install, no port to open.

Every request for anything but the page's own file is refused, and counted. The protocol is
https://chromedevtools.github.io/devtools-protocol; with ``--remote-debugging-pipe`` its JSON messages go in by file
descriptor 3 and out by 4, each ended by a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
PATIENCE_S = 60.0
LAPTOP = (1280, 800)
PHONE = (390, 844)
# The contrast of each text with what lies behind it, WCAG 2.2's relative luminance; paddings and patterns count as
# the background colour.
CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) { return colour; }
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, style = getComputedStyle(element);
    const hidden = !element.checkVisibility() || style.visibility === "hidden";
    if (!walk.currentNode.data.trim() || hidden || ["SCRIPT", "STYLE"].includes(element.tagName)) { continue; }
    const [a, b] = [light(parse(style.color)), light(behind(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), walk.currentNode.data.trim().slice(0, 40)]);
  }
  return found.sort((x, y) => x[0] - y[0]).slice(0, 5);
})()
"""
# Where each element that no scrolling region holds ends, beyond the window.
BEYOND = """
(() => {
  const width = document.documentElement.clientWidth;
  const out = (box) => box.right > width + 0.5 || box.left < -0.5;
  return [...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".scroll table") && one.checkVisibility() && !one.closest("#tip, .unseen"))
    .filter((one) => out(one.getBoundingClientRect()))
    .map((one) => one.tagName + "." + one.className).slice(0, 5);
})()
"""
# What runs over the edge of its own box, into its neighbour.
SPILT = """
[...document.querySelectorAll(".value, .name, .box, .arrow, .card, .changes li, .key li, .what, .floor span")]
  .filter((one) => one.checkVisibility() && one.clientWidth && one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.className + ": " + one.textContent.slice(0, 60)).slice(0, 5)
"""


def find() -> str | None:
    """The browser's path, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One browser with one page."""

    def __init__(self, folder: Path) -> None:
        to_it, our_end = os.pipe()
        our_ear, from_it = os.pipe()
        program = find()
        assert program is not None
        # The shell puts the pipes where the browser looks for them, whatever numbers they have here.
        command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        moved = ["bash", "-c", f'exec 3<&{to_it} 4>&{from_it}; exec "$@"', "browser", *command]
        self._process = subprocess.Popen(
            moved,
            pass_fds=(to_it, from_it),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_it)
        os.close(from_it)
        self._in, self._out = our_end, our_ear
        self._buffer = b""
        self._count = 0
        self._session = ""
        self.refused: list[str] = []
        """URLs that were asked for and not given."""
        self.complaints: list[str] = []
        """Errors and warnings of the page's console, and exceptions of its scripts."""
        self._own = ""
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol and its answer; what the page does meanwhile is noted."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, (method, answer["error"])
                found: dict[str, Any] = answer["result"]
                return found
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser said nothing for {PATIENCE_S} s"
            part = os.read(self._out, 1 << 20)
            assert part, "the browser went away"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Fetch.requestPaused":
            url = params["request"]["url"]
            self._count += 1
            command = "Fetch.continueRequest" if url == self._own else "Fetch.failRequest"
            reason = {} if url == self._own else {"errorReason": "BlockedByClient"}
            if url != self._own:
                self.refused.append(url)
            answer = {
                "id": self._count,
                "method": command,
                "params": {"requestId": params["requestId"], **reason},
                "sessionId": self._session,
            }
            os.write(self._in, json.dumps(answer).encode() + b"\0")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", params["exceptionDetails"])))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])

    def look(
        self, size: tuple[int, int] = LAPTOP, *, dark: bool = False, media: str = "screen", scale: float = 1
    ) -> None:
        """Set the window's size in CSS pixels, the colour scheme and the medium."""
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, file: Path) -> None:
        """Load a file and wait until it is drawn. What was refused or complained about is counted anew."""
        self._own, self.refused, self.complaints = file.as_uri(), [], []
        self.call("Page.navigate", url=self._own)
        deadline = time.monotonic() + PATIENCE_S
        while self.run("document.readyState + location.href") != f"complete{self._own}":
            assert time.monotonic() < deadline, "the page was never loaded"
            time.sleep(0.02)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def hover(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def press(self, key: str) -> None:
        """Press and release a key."""
        codes = {"Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])
        self.settle()

    def picture(self, *, whole: bool = False, clip: tuple[float, float, float, float] | None = None) -> bytes:
        """A PNG of the window, of the whole page, or of (left, top, width, height) of it."""
        more: dict[str, Any] = {"captureBeyondViewport": whole or clip is not None}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = (0, 0, size["width"], size["height"])
        if clip:
            more["clip"] = dict(zip(("x", "y", "width", "height"), clip, strict=True)) | {"scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **more)["data"])

    def pdf(self) -> bytes:
        """The page as it would be printed."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])

    def close(self) -> None:
        """End the browser and all of its processes."""
        os.close(self._in)
        os.close(self._out)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser that is gone afterwards, with all that it wrote."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        made = Browser(Path(folder))
        try:
            yield made
        finally:
            made.close()
