"""A headless Chromium, spoken to over its debugging pipe: real clicks and keys in the page, and what comes of them.

Beside it, what a page consists of, for those who need no browser.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE = 30  # seconds for an answer

VOID = {"meta", "input", "br", "img"}


class Outline(HTMLParser):
    """What a page consists of; every element must be closed in its place."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attributes for one, attributes in self.elements if one == tag]


def find():
    """Path of a Chromium on this machine; None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a Chromium of its own.

    Args:
        path: The program.
    """

    def __init__(self, path):
        self.home = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self.out = (_high(fd) for fd in os.pipe())
        self.inn, theirs_out = (_high(fd) for fd in os.pipe())
        arguments = [path, "--headless", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={self.home}"]
        arguments += ["--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars", "about:blank"]
        silent = os.open(os.devnull, os.O_RDWR)
        actions = [
            (os.POSIX_SPAWN_DUP2, fd, place)
            for fd, place in ((silent, 1), (silent, 2), (theirs_in, 3), (theirs_out, 4))
        ]
        self.process = os.posix_spawn(path, arguments, dict(os.environ), file_actions=actions)
        for fd in (silent, theirs_in, theirs_out):
            os.close(fd)
        os.set_blocking(self.inn, False)
        self.rest, self.events, self.number, self.session = b"", [], 0, None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{part}.enable")

    def call(self, method, **params):
        """Ask for something; gives the answer, and keeps the events that came before it."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next_message()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def next_message(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            assert time.monotonic() < end, "Chromium does not answer"
            try:
                self.rest += os.read(self.inn, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    def open(self, path):
        """Load a file and wait until it is there."""
        self.events.clear()
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.next_message())

    def resize(self, width, height, *, phone=False):
        """Show the page as on a screen of this many CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def run(self, script):
        """Value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def click(self, selector):
        """Click the middle of an element, as a mouse does."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({find}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        """Write into a field in place of what it holds."""
        self.run(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        self.call("Input.insertText", text=text)

    def press(self, key):
        """Press and release a key by its name."""
        code = {"Enter": 13, "ArrowDown": 40}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def screenshot(self, path):
        """Save the whole page as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def complaints(self):
        """What the page wrote to the console or broke with, and what it asked the network for."""
        said = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(("file:", "data:")):
                said.append(params["request"]["url"])
            elif method == "Runtime.exceptionThrown":
                said.append(params["exceptionDetails"]["text"])
            elif method == "Log.entryAdded":
                said.append(params["entry"]["text"])
            elif method == "Runtime.consoleAPICalled":
                said.append(str(params["args"]))
            elif method == "Page.javascriptDialogOpening":
                said.append(params["message"])
        return said

    def close(self):
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.inn)
        os.close(self.out)
        shutil.rmtree(self.home, ignore_errors=True)


def _high(fd):
    """Move a descriptor out of the way of those that Chromium expects."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(fd)
    return moved
