"""A page in headless Chromium, driven through the pipe of its DevTools: no package is needed."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--remote-debugging-pipe", "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)  # fmt: skip

_PATIENCE = 60  # seconds
# The protocol wants its pipe at the file descriptors 3 and 4, which may be taken.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, wanted in zip(ends, (3, 4)):
    os.dup2(end, wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


# Texts that are too pale for WCAG 2.2 level AA (1.4.3): 4.5 to 1, 3 to 1 where they are large.
_PALE = """(() => {
  const brush = Object.assign(document.createElement("canvas"), {width: 1, height: 1})
    .getContext("2d", {willReadFrequently: true});
  const channels = (colour) => {
    brush.clearRect(0, 0, 1, 1); brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const over = (top, bottom) =>
    top.slice(0, 3).map((c, i) => c * top[3] + bottom[i] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return [1, 1, 1];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own[3] == 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const light = (colour) => colour
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const pale = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    const text = [...element.childNodes].filter((n) => n.nodeType == 3)
      .map((n) => n.textContent.trim()).join("");
    if (!text || !element.checkVisibility({checkVisibilityCSS: true})) continue;
    if (element.closest("svg, :disabled, option, script, style")) continue;
    const style = getComputedStyle(element), bottom = ground(element);
    const top = over(channels(style.color), bottom);
    const [low, high] = [light(top), light(bottom)].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < (large ? 3 : 4.5)) pale.add(`${ratio.toFixed(2)}: ${element.tagName} ${text}`);
  }
  return [...pale];
})()"""


class Page:
    """One tab. ``problems`` collects errors, console messages and requests to elsewhere."""

    def __init__(self, read: int, write: int):
        self._read, self._write, self._buffer, self._id = read, write, b"", 0
        self._session: str | None = None
        self._events: list[str] = []
        self.problems: list[str] = []
        self.allowed = ("file:", "data:", "about:", "blob:")  # what addresses may begin with
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command of the DevTools protocol and waits for its answer."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._id:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(
        self, place: Path | str, width: int = 1200, height: int = 1000, dark: bool = False
    ) -> None:
        """Loads a file or an address at a window's size and waits until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self._events.clear()
        self.call(
            "Page.navigate", url=place if isinstance(place, str) else place.absolute().as_uri()
        )
        while "Page.loadEventFired" not in self._events:
            self._note(self._next())
        self.frames()

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def frames(self) -> None:
        """Waits for two frames, after which what scrolled or changed has been laid out."""
        self.run("new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression holds; TimeoutError where it does not come to."""
        until = time.monotonic() + _PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"{condition} has not come true in {_PATIENCE} s")
            self.frames()

    def pale_texts(self) -> list[str]:
        """What can be seen and has too little contrast, with its ratio."""
        return self.run(_PALE)

    def press(self, key: str) -> None:
        """A key by its DOM name, such as ArrowRight or g; Enter also types a line break."""
        typed = {"text": "\r" if key == "Enter" else key} if key == "Enter" or key[1:] == "" else {}
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=codes.get(key, ord(key[0].upper())),
                      **(typed if kind == "keyDown" else {}))  # fmt: skip
        self.frames()

    def click(self, selector: str) -> None:
        """A press of the mouse on the middle of the first element that fits."""
        middle = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=middle[0], y=middle[1],
                      button="left", clickCount=1)  # fmt: skip
        self.frames()

    def drop(self, *paths: Path) -> None:
        """Drops files and folders on the page."""
        data = {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)
        self.frames()

    def screenshot(self, file: Path, full: bool = True) -> None:
        """PNG of the whole page, or of the window alone."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=full)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], _PATIENCE)[0]:
                raise TimeoutError(f"Chromium has been silent for {_PATIENCE} s")
            received = os.read(self._read, 1 << 20)
            if not received:
                raise RuntimeError("Chromium has closed its pipe")
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.problems.append(str(parameters["args"]))
        elif method == "Log.entryAdded":
            self.problems.append(parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(self.allowed):
                self.problems.append(f"requests {url}")


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """A page in a browser of its own, with a new profile; both are gone afterwards."""
    to_read, to_write = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(to_read[0]), str(to_write[1]), str(CHROMIUM),
             *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(to_read[0], to_write[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read[0])
        os.close(to_write[1])
        try:
            yield Page(to_write[0], to_read[1])
        finally:
            process.kill()
            process.wait()
            os.close(to_read[1])
            os.close(to_write[0])
