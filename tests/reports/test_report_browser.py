"""The report in a real browser: nothing asked of the network, nothing on the console, nothing too wide."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal

import pytest

from dvae_reports.report.machine import render_machine_report
from dvae_reports.report.render import render_report
from dvae_reports.results.run_directory import RunRecord
from tests.reports.test_report_machine import measured
from tests.reports.test_report_run import write_run

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-pipe"
).split()

# Seconds to wait for an answer; an old machine that starts the browser anew needs some.
PATIENCE = 60


class Browser:
    """Chromium spoken to over two pipes: JSON messages, each ended by a zero byte (DevTools protocol)."""

    def __init__(self, profile):
        self.inbox, self.outbox, self.pid = spawn([BINARY, *OPTIONS, f"--user-data-dir={profile}"])
        self.rest, self.last, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and return its result; what happens meanwhile is kept in `events`."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.outbox, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.last:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def read(self):
        """Return the next message."""
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.inbox], [], [], PATIENCE)
            chunk = os.read(self.inbox, 1 << 20) if ready else b""
            if not chunk:
                raise RuntimeError(
                    "the browser has gone" if ready else f"no word from the browser in {PATIENCE} s"
                )
            self.rest += chunk
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, url):
        """Load a page, whole."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())

    def resize(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def theme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self):
        """Return the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def close(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        os.close(self.inbox)
        os.close(self.outbox)


def spawn(command):
    """Start a program that reads from its descriptor 3 and writes to its 4; return our ends and its number."""
    ends = [*os.pipe(), *os.pipe()]
    # Moved out of the way first: the pipes' own numbers may be 3 and 4.
    theirs_in, outbox, inbox, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs_in, 3),
        (os.POSIX_SPAWN_DUP2, theirs_out, 4),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    for end in (*ends, theirs_in, theirs_out):
        os.close(end)
    return inbox, outbox, pid


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BINARY is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module", params=["one run", "three runs", "a machine"])
def page(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    path = folder / "report.html"
    if request.param == "a machine":
        path.write_text(render_machine_report(measured(folder)), encoding="utf-8")
        return path
    runs = [write_run(folder / "a")]
    if request.param == "three runs":
        runs += [
            write_run(folder / "a-long-name-without-any-blank-in-it-seed-1", seed=1),
            write_run(folder / "b", bad=True),
        ]
    path.write_text(render_report([RunRecord.load(run) for run in runs]), encoding="utf-8")
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_quiet_and_fits(browser, page, width, theme):
    browser.resize(width)
    browser.theme(theme)
    browser.open(page.as_uri())
    requested = {
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in requested if not url.startswith("data:")} == {page.as_uri()}
    loud = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event["method"] in loud] == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    # The figures follow the theme: their ink is the page's.
    assert (
        browser.evaluate(INK_OF_THE_FIGURES) == {"light": "rgb(29, 35, 41)", "dark": "rgb(230, 234, 238)"}[theme]
    )


INK_OF_THE_FIGURES = "getComputedStyle(document.querySelector('.plot text[style*=ink]')).fill"
