"""A headless Chromium that notes what a page complains of, and every request that would leave the machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Error, Page, Route, sync_playwright

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
HERE = ("", "localhost", "127.0.0.1")  # hosts; files and data have none
MINUTE = 60_000  # milliseconds


class Chromium:
    """As a context manager; `page` opens one."""

    def __init__(self, shots: Path) -> None:
        self.shots = shots

    def __enter__(self) -> "Chromium":
        self.shots.mkdir(parents=True, exist_ok=True)
        self.driver = sync_playwright().start()
        found = next(filter(None, map(shutil.which, INSTALLED)), None)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
        try:
            self.browser = self.driver.chromium.launch(
                executable_path=found, args=sandbox, timeout=MINUTE * 5
            )
        except Error as error:
            self.driver.stop()
            remedy = "`apt install chromium`, or `playwright install chromium`"
            raise SystemExit(f"Chromium does not start; {remedy}\n{error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self.driver.stop()

    @contextmanager
    def page(self, width: int, problems: list[str], height: int = 1000) -> Iterator[Page]:
        """A new page. problems: gets each error on its console, and each request to another machine, which
        is not let through."""
        context = self.browser.new_context(viewport={"width": width, "height": height})
        context.set_default_timeout(10 * MINUTE)
        page = context.new_page()

        def pass_on(route: Route) -> None:
            if (urlsplit(route.request.url).hostname or "") in HERE:
                route.continue_()
            else:
                problems.append(f"asks for {route.request.url}")
                route.abort()

        def console(message) -> None:
            if message.type == "error":
                problems.append(f"console: {message.text} ({message.location.get('url', '')})")

        context.route("**/*", pass_on)
        page.on("console", console)
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        yield page
        context.close()

    def shoot(self, page: Page, name: str, full: bool = False) -> None:
        page.screenshot(path=self.shots / f"{name}.png", full_page=full)
