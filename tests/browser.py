"""Headless Chromium, driven by the standard library: WebDriver is JSON over HTTP."""

import base64
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A browser starts, and draws, on a machine that runs other tests meanwhile.
PATIENCE = 30.0

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Control": "\ue009"}
KEYS |= {"Shift": "\ue008", "ArrowRight": "\ue014", "Down": "\ue015", "Space": " "}

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
    "--lang=en-GB",
    "--window-size=1400,900",
]


def missing() -> str:
    """Say what is not there of a browser; empty when everything is."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if not absent:
        return ""
    return f"{' and '.join(absent)} not found: apt-get install chromium chromium-driver"


class BrowserError(Exception):
    """What WebDriver refused to do."""


@dataclass
class Browser:
    """One browser with one window."""

    session: str
    # What the console said so far: reading it from the driver empties it.
    said: list[dict[str, Any]] = field(default_factory=list)

    # --- asking and doing ---

    def open(self, url: str) -> None:
        """Load a page."""
        self._post("/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript: its `return`, with `arguments` as it knows them."""
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, css: str) -> str:
        """Give the text of the first such element; empty when there is none."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def wait(self, what: str, script: str, *arguments: Any, seconds: float = PATIENCE) -> Any:
        """Wait until an expression is true, and give it; fail with ``what`` was waited for."""
        deadline = time.monotonic() + seconds
        while True:
            with suppress(BrowserError):
                if found := self.run(f"return {script}", *arguments):
                    return found
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds:g} s for {what}\n{self.text('main')}")
            time.sleep(0.05)

    def wait_for(self, css: str, words: str = "") -> None:
        """Wait for an element that is shown and has these words."""
        script = (
            "[...document.querySelectorAll(arguments[0])]"
            ".some((one) => one.checkVisibility()"
            " && (one.innerText ?? one.textContent).includes(arguments[1]))"
        )
        self.wait(f"{css} with {words!r}", script, css, words)

    def click(self, css: str) -> None:
        """Click as a person does: what is hidden or covered cannot be clicked."""
        self._post(f"/element/{self._find(css)}/click", {})

    def write(self, css: str, text: str) -> None:
        """Put a text in place of what is in a field, key by key."""
        element = self._find(css)
        self._post(f"/element/{element}/clear", {})
        self._post(f"/element/{element}/value", {"text": text})

    def give_file(self, css: str, path: Path) -> None:
        """Choose a file in a field for files."""
        self._post(f"/element/{self._find(css)}/value", {"text": str(path)})

    def press(self, *keys: str) -> None:
        """Press keys where the focus is: `Tab`, or `Control` with `Enter`, or letters."""
        down = [{"type": "keyDown", "value": KEYS.get(key, key)} for key in keys]
        up = [{"type": "keyUp", "value": KEYS.get(key, key)} for key in reversed(keys)]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": down + up}]})

    def hover(self, css: str, right: int = 0) -> None:
        """Move the pointer to the middle of an element, or beside it."""
        origin = {ELEMENT: self._find(css)}
        move = {"type": "pointerMove", "duration": 0, "x": right, "y": 0, "origin": origin}
        mouse = {"type": "pointer", "id": "mouse", "actions": [move]}
        self._post("/actions", {"actions": [mouse]})

    # --- what it looks like ---

    def screen(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the window a size of its own, however small."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, **features: str) -> None:
        """Say what the user prefers: `prefers_color_scheme="dark"`."""
        given = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.devtools("Emulation.setEmulatedMedia", {"features": given})

    def picture(self, path: Path) -> None:
        """Write what is shown as a PNG."""
        path.write_bytes(base64.b64decode(str(self._get("/screenshot"))))

    def devtools(self, command: str, parameters: Mapping[str, Any]) -> Any:
        """Ask Chromium itself."""
        return self._post("/goog/cdp/execute", {"cmd": command, "params": dict(parameters)})

    def console(self) -> list[str]:
        """Give every warning and error so far, violations of the policy among them."""
        self.said += self._post("/se/log", {"type": "browser"})
        serious = [one for one in self.said if one["level"] in ("WARNING", "SEVERE")]
        return [str(one["message"]) for one in serious]

    # --- WebDriver ---

    def _find(self, css: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(BrowserError):
                using = {"using": "css selector", "value": css}
                return str(self._post("/element", using)[ELEMENT])
            if time.monotonic() > deadline:
                raise AssertionError(f"there is no {css}\n{self.text('main')}")
            time.sleep(0.05)

    def _get(self, path: str) -> Any:
        return _ask("GET", self.session + path, None)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return _ask("POST", self.session + path, body)


def _ask(method: str, url: str, body: Mapping[str, Any] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        said = json.load(error)["value"]
        raise BrowserError(f"{said['error']}: {said['message'].splitlines()[0]}") from None


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser that knows nothing, and end it with all its processes."""
    with tempfile.TemporaryDirectory(prefix="exuvia-browser-", ignore_cleanup_errors=True) as home:
        driver = subprocess.Popen(
            ["chromedriver", "--port=0", "--log-level=SEVERE"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": home, "TMPDIR": home},
            start_new_session=True,
        )
        try:
            root = f"http://127.0.0.1:{_port(driver)}"
            options = {"args": [*FLAGS, f"--user-data-dir={home}/profile"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = _ask("POST", f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
            session = f"{root}/session/{made['sessionId']}"
            try:
                yield Browser(session)
            finally:
                _ask("DELETE", session, None)
        finally:
            driver.terminate()
            driver.communicate()


def _port(driver: subprocess.Popen[str]) -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if found := re.search(r"successfully on port (\d+)", line):
            return int(found[1])
    raise BrowserError("chromedriver did not start")
