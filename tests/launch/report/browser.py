"""A page in headless Chromium, asked over the browser's own protocol on a pair of pipes; no package is needed."""

import json
import os
import select
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_LONGEST_S = 120

# The browser reads from 3 and writes to 4, whatever the ends are called where it is started.
_START = """
import os, sys
high = [os.dup2(int(one), 100 + place) for place, one in enumerate(sys.argv[1:3])]
for place, one in enumerate(high):
    os.dup2(one, 3 + place)
os.execv(sys.argv[3], sys.argv[3:])
"""


def installed():
    """Path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One window; what pages ask for and complain about is kept in `requests` and `complaints`.

    Raises:
        OSError: where the browser does not start here.
    """

    def __init__(self, profile):
        self._told, self._count, self._session = b"", 0, None
        self.requests, self.complaints = [], []
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _START,
                str(from_us),
                str(to_us),
                installed(),
                *options,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(from_us)
        os.close(to_us)
        self._to, self._from = to_browser, from_browser
        try:
            target = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.ask(f"{domain}.enable")
        except OSError:
            self.close()
            raise

    def ask(self, method, **settings):
        """What the browser answers; what happens meanwhile is kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": settings}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self._keep(answer.get("method"), answer.get("params", {}))

    def _next(self):
        while b"\0" not in self._told:
            ready, _, _ = select.select([self._from], [], [], _LONGEST_S)
            part = os.read(self._from, 1 << 20) if ready else b""
            if not part:
                raise OSError("the browser does not answer")
            self._told += part
        message, _, self._told = self._told.partition(b"\0")
        return json.loads(message)

    def _keep(self, method, told):
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(told)

    def show(self, path, *, width, scheme="light"):
        """Open a file in a window of so many pixels, with all its pictures."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.ask("Page.navigate", url=path.as_uri())
        self.value("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")
        self.value(
            "document.querySelectorAll('details').forEach(one => one.open = true);"
            "document.querySelectorAll('img').forEach(one => one.loading = 'eager');"
            "Promise.all([...document.images].map(one => one.decode())).then(() => 1)"
        )

    def value(self, expression):
        """Of an expression of JavaScript, once it is known."""
        settings = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.ask("Runtime.evaluate", **settings)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self):
        """End it."""
        os.close(self._to)
        os.close(self._from)
        self._process.kill()
        self._process.wait()
