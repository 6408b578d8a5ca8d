"""The explorer, the report and the book, from files, at a phone's width and a screen's."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chromium import Chromium
from PIL import Image
from playwright.sync_api import Page
from skimage.data import chelsea

from hgrl.core import paths

WIDTHS = 400, 1600
BROKEN = "() => [...document.images].filter(image => image.complete && !image.naturalWidth).length"
Problems = list[str]


def explorer(browser: Chromium, folder: Path) -> Problems:
    """Of a photograph, as `group --pictures` writes it."""
    photo = folder / "cat.jpg"
    Image.fromarray(chelsea()).save(photo)
    _hgrl("group", str(photo), "--out", str(folder / "trees"), "--pictures")
    (path,) = (folder / "trees").rglob("cat.html")
    return _at_both_widths(browser, path, "explorer", _use_explorer)


def _use_explorer(page: Page, problems: Problems) -> None:
    state = """() => [document.querySelector('#map').toDataURL(), document.querySelector('#tree').innerHTML,
                      document.querySelector('#cut-text').textContent]"""
    before = page.evaluate(state)
    page.focus("#cut")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    moved = page.evaluate(state)
    for name, one, other in zip(("picture", "dendrogram", "text"), before, moved, strict=True):
        _must(one != other, f"the slider moves, the {name} stays", problems)
    page.hover("#map", position={"x": 100, "y": 100})
    hovered = page.evaluate(state)
    _must(hovered[0] != moved[0] and 'class="lit"' in hovered[1], "hovering lights nothing up", problems)
    _must("% of the picture" in page.inner_text("#told"), "hovering tells nothing", problems)
    page.hover("#tree", position={"x": 150, "y": 60})
    _must("% of the picture" in page.inner_text("#told"), "a branch tells nothing", problems)
    page.click("#tree", position={"x": 150, "y": 30})
    _must(page.evaluate(state)[2] != moved[2], "a click on the dendrogram does not move the cut", problems)
    page.hover("#map", position={"x": 120, "y": 80})


def report(browser: Chromium, folder: Path) -> Problems:
    """Of the committed results of `mini`."""
    path = folder / "report.html"
    _hgrl("report", "mini", "--html", str(path))
    return _at_both_widths(browser, path, "report", _use_report)


def _use_report(page: Page, problems: Problems) -> None:
    column = "table => [...table.tBodies[0].rows].map(row => row.cells[2].textContent)"
    table = page.locator("table").first
    head = table.locator("th").nth(2)
    head.locator("button").click()
    up = table.evaluate(column)
    _must(head.get_attribute("aria-sort") == "ascending", "a heading does not sort", problems)
    head.locator("button").click()
    down = table.evaluate(column)
    _must(up != down and sorted(up) == sorted(down), "a second click does not sort downwards", problems)
    _must(page.locator("svg polyline").count() > 0, "no curve", problems)
    summary = page.locator("summary").first
    summary.scroll_into_view_if_needed()
    summary.click()
    loaded = (
        "() => [...document.querySelectorAll('details[open] img')].every(image => image.naturalWidth > 0)"
    )
    page.wait_for_timeout(500)
    _must(page.evaluate(loaded), "a picture does not load", problems)


def book(browser: Chromium, folder: Path) -> Problems:
    """What `make book` left in artifacts/book: every page, and a search."""
    site = paths.HOME / "artifacts" / "book"
    if not (site / "index.html").exists():
        return [f"{site}: no book there; run `make book`"]
    problems: Problems = []
    for width in WIDTHS:
        with browser.page(width, problems) as page:
            page.goto((site / "index.html").as_uri())
            page.wait_for_url("**/README.html")
            for path in sorted({*site.rglob("*.html")} - {site / "index.html"}):
                page.goto(path.as_uri())
                own = path.relative_to(site)
                _must(_fits(page), f"{own}: wider than {width} pixels", problems)
                _must(page.evaluate(BROKEN) == 0, f"{own}: a picture does not load", problems)
            page.goto((site / "search.html").as_uri() + "?q=ultrametric")
            page.wait_for_selector("ul.search li a", timeout=60_000)
            browser.shoot(page, f"book-search-{width}")
            for name in ("README", "notebooks/01_grouping"):
                page.goto((site / f"{name}.html").as_uri())
                browser.shoot(page, f"book-{Path(name).name}-{width}", full=True)
    return problems


def _at_both_widths(
    browser: Chromium, path: Path, name: str, use: Callable[[Page, Problems], None]
) -> Problems:
    problems: Problems = []
    for width in WIDTHS:
        with browser.page(width, problems) as page:
            page.goto(path.as_uri())
            use(page, problems)
            _must(_fits(page), f"wider than {width} pixels", problems)
            browser.shoot(page, f"{name}-{width}")
    return problems


def _fits(page: Page) -> bool:
    return page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def _must(holds: bool, problem: str, problems: Problems) -> None:
    if not holds:
        problems.append(problem)


def _hgrl(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "hgrl", *arguments], check=True, stdout=subprocess.DEVNULL)
