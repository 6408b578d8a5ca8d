"""Each notebook in JupyterLab: Run All, no error; every slider moves, and the picture below it changes."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from chromium import Chromium
from playwright.sync_api import Locator, Page

from hgrl.core import paths
from hgrl.core.files import write_json

ARGUMENTS = ["--no-browser", "--IdentityProvider.token=", "--allow-root"]
ARGUMENTS += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"]
NEWS = "@jupyterlab/apputils-extension:announcements"  # asks whether it may fetch them
LANGUAGE_SERVER = "/lsp/status"  # which JupyterLab asks for; there need not be one
WIDGET = "window.jupyterapp.shell.currentWidget"
OPEN = f"() => window.jupyterapp && {WIDGET}?.content?.widgets?.length"
KERNEL = f"() => {WIDGET}.sessionContext?.session?.kernel?.status === 'idle'"
RUN = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
SHUT_DOWN = f"() => {WIDGET}.sessionContext.shutdown()"
CELLS = f"{WIDGET}.content.model.toJSON().cells"
ERRORS = f"""() => {CELLS}.flatMap(cell => (cell.outputs || [])
    .filter(output => output.output_type === 'error').map(error => `${{error.ename}}: ${{error.evalue}}`))"""
SHOWN = f"""() => {CELLS}.flatMap((cell, k) => {{
    const kinds = (cell.outputs || []).flatMap(output => Object.keys(output.data || {{}}));
    const live = kinds.some(kind => kind.includes('widget-view'));
    return live || kinds.some(kind => kind.startsWith('image/')) ? [[k, live]] : []; }})"""
SCROLL = f"""async k => {{ const notebook = {WIDGET}.content;
    notebook.activeCellIndex = k;
    await notebook.scrollToItem(k, 'start');
    notebook.widgets[k].node.id = `cell-${{k}}`; }}"""
PICTURES = """k => [...document.querySelectorAll(`#cell-${k} img, #cell-${k} canvas`)]
    .map(image => image.src || image.toDataURL()).join()"""
TURNED = f"([k, before]) => ({PICTURES})(k) !== before"


@contextmanager
def lab(folder: Path) -> Iterator[str]:
    """JupyterLab over a copy of the notebooks, for it saves what it runs; its address."""
    copies = folder / "notebooks"
    shutil.copytree(paths.HOME / "notebooks", copies)
    write_json(folder / "config" / "labconfig" / "page_config.json", {"disabledExtensions": {NEWS: True}})
    environment = os.environ | {"HGRL_HOME": str(paths.HOME), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={copies}",
        f"--port={port}",
        *ARGUMENTS,
    ]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(f"http://localhost:{port}/api", folder / "lab.log", server)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, log: Path, server: subprocess.Popen) -> None:
    for _ in range(600):
        try:
            urlopen(address).close()
            return
        except URLError:
            if server.poll() is not None:
                break
            time.sleep(1)
    raise SystemExit(f"JupyterLab does not start:\n{log.read_text()[-2000:]}")


def use(browser: Chromium, address: str, name: str) -> list[str]:
    """Problems of one notebook; a screenshot of every cell that shows something."""
    problems: list[str] = []
    with browser.page(1300, problems, height=1100) as page:
        # a workspace of its own: JupyterLab would open the last notebook's tab again, without its widgets
        page.goto(f"{address}/lab/workspaces/{name}/tree/{name}.ipynb")
        page.wait_for_function(OPEN)
        page.wait_for_function(KERNEL)
        begun = time.monotonic()
        page.evaluate(RUN)
        print(f"{name}: Run All took {time.monotonic() - begun:.0f} s", flush=True)
        problems += page.evaluate(ERRORS)
        _settle(page)
        shown = page.evaluate(SHOWN)
        if not shown:
            problems.append("shows no picture")
        for k, live in shown:
            page.evaluate(SCROLL, k)
            page.wait_for_timeout(1_000)
            browser.shoot(page, f"{name}-{k:02}")
            if live:
                problems += _move_sliders(page, k)
                browser.shoot(page, f"{name}-{k:02}-moved")
        page.evaluate(SHUT_DOWN)
    return [problem for problem in problems if LANGUAGE_SERVER not in problem]


def _move_sliders(page: Page, cell: int) -> list[str]:
    shown = page.locator(f"#cell-{cell} .jupyter-widgets").count()
    problems = [] if shown else [f"cell {cell}: its controls do not show"]
    handles = page.locator(f"#cell-{cell} .noUi-handle")
    for k in range(handles.count()):
        before = page.evaluate(PICTURES, cell)
        if not _moved(page, cell, handles.nth(k), "ArrowRight", before) and not _moved(
            page, cell, handles.nth(k), "ArrowLeft", before
        ):
            problems.append(f"cell {cell}, slider {k + 1}: it moves, the picture stays")
    return problems


def _moved(page: Page, cell: int, handle: Locator, key: str, before: str) -> bool:
    handle.focus()
    for _ in range(5):
        handle.press(key)
    _settle(page)
    return page.evaluate(TURNED, [cell, before])


def _settle(page: Page) -> None:
    """Wait until the kernel has answered what was asked of it, and the answer is drawn."""
    page.wait_for_timeout(1_000)
    page.wait_for_function(KERNEL)
    page.wait_for_timeout(1_000)
