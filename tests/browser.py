"""Headless Chromium on a page that this machine serves, and a watch on what it asks for and complains of."""

import contextlib
import json
import math
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import playwright.sync_api
import pytest

from simple_llm.files.writing import exclusive
from web.packages import INSTALLED, PACKAGE_JSON
from web.serving import address, make_server

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """A page that is open.

    Attributes:
        complaints: what the console or an uncaught error said.
        foreign: addresses it asked for that are not the server's.
    """

    page: playwright.sync_api.Page
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def add(self, x: str, y: str) -> tuple[str, str]:
        """Type two numbers as a person would, press Enter, and read the answer and the verdict."""
        for name, value in (("#x", x), ("#y", y)):
            self.page.fill(name, value)
        self.page.press("#y", "Enter")
        self.wait()
        return self.page.inner_text("#answer"), self.page.inner_text("#status")

    def work_out(self, problem: str) -> tuple[str, str]:
        """Type a problem, press Enter, and read the answer and the verdict."""
        self.page.fill("#problem", problem)
        self.page.press("#problem", "Enter")
        self.wait()
        return self.page.inner_text("#answer"), self.page.inner_text("#status")

    def wait(self) -> None:
        """Until the model is loaded and nothing is being added."""
        self.page.wait_for_selector("#form[aria-busy=false]", timeout=60_000)


def inaccessible(page: playwright.sync_api.Page) -> list[list[str]]:
    """What axe finds on a page: rules that are broken, each with the first element that breaks it."""
    page.evaluate(_axe())
    return page.evaluate("""axe.run(document, {resultTypes: ["violations"]}).then(
        ({violations}) => violations.map(one => [one.id, one.nodes[0].html]))""")


def _axe() -> str:
    """Its source; npm brings it, once, at the version of web/package.json."""
    folder = INSTALLED / "checks"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    version = json.loads(PACKAGE_JSON.read_text())["devDependencies"]["axe-core"]
    with exclusive(folder, patience=math.inf):
        if not script.exists() or f"axe v{version}" not in script.read_text()[:100]:
            quietly = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
            subprocess.run(["npm", "install", *quietly, "--prefix", folder, f"axe-core@{version}"], check=True)
    return script.read_text()


needs_npm = pytest.mark.skipif(
    shutil.which("npm") is None and "NEEDS_BROWSER" not in os.environ, reason="npm is not installed"
)


@contextlib.contextmanager
def chromium() -> Iterator[playwright.sync_api.Browser]:
    """Start the browser; without one the test is skipped, but not where NEEDS_BROWSER promises one."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and "NEEDS_BROWSER" not in os.environ:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    assert path, "NEEDS_BROWSER is set, and there is none"
    with playwright.sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visit(browser: playwright.sync_api.Browser, folder: Path, fragment: str = "", **options: object) -> Iterator[Visit]:
    """Serve a folder, open its page in a window of its own, and wait until it has answered its first sum.

    Args:
        fragment: of the address, such as "#1+2".
        options: of the window: its size, its colour scheme.
    """
    with make_server(folder) as server, browser.new_context(**options) as context:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = address(server)
        visited = Visit(context.new_page())
        visited.page.on("console", lambda message: visited.complaints.append(message.text))
        visited.page.on("pageerror", lambda error: visited.complaints.append(str(error)))
        visited.page.on("request", lambda request: request.url.startswith(home) or visited.foreign.append(request.url))
        visited.page.goto(home + fragment)
        visited.wait()
        yield visited
        server.shutdown()
