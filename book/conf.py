"""`make book`: README, docs, tables and executed notebooks as one static site, to be read offline."""

import re
import sys
from pathlib import Path

import nbformat
from docutils import nodes
from latex2mathml.converter import convert

from hgrl.core import paths
from hgrl.core.experiment import load_experiment
from hgrl.reporting.html_page import NARROW

sys.path.insert(0, str(Path(__file__).parent))
from executed import executed_notebook, without_live_parts

project, html_title = "hgrl", "hgrl: hierarchical grouping"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "results/**.md",
    "benchmarks/*.md",
    "hgrl/**.md",
    "notebooks/*.ipynb",
]
exclude_patterns = [".*", "**/.*", "artifacts", "data", "**/__pycache__", "*.egg-info"]
html_theme = "furo"
html_math_renderer = "mathml"  # which a browser draws by itself; MathJax is fetched from elsewhere
html_static_path, html_css_files = ["static"], ["book.css"]
html_copy_source = html_show_copyright = False
html_show_search_summary = False  # a page opened as a file may not fetch the others
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # fetched from elsewhere too; nothing is live here
suppress_warnings = ["myst.header"]  # notebooks may skip a level
CONTENTS = """

<p><a href="report.html">The results as one page, with tables that sort</a></p>

```{toctree}
:hidden:
:glob:
:caption: Notebooks

notebooks/*
```

```{toctree}
:hidden:
:glob:
:caption: Documentation

docs/*
CONTRIBUTING
```

```{toctree}
:hidden:
:glob:
:caption: Results

results/README
results/mini/**
results/photos/**
results/bsds500/**
benchmarks/*
hgrl/**
```
"""
LINK = re.compile(r"\[([^\[\]]+)\]\(([^()\s#:]+)\)")
EXECUTED = re.compile(r"executed/(\w+)\.md$")
Math = nodes.math | nodes.math_block


def read_source(app, page: str, source: list[str]) -> None:
    """What Sphinx reads of a page: notebooks as executed, links that lead somewhere in this site."""
    folder = (paths.HOME / page).parent
    if page.startswith("notebooks/"):
        notebook = executed_notebook(load_experiment(app.config.profile), Path(page).name)
        notebook = without_live_parts(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = LINK.sub(lambda link: led(link, folder), cell.source)
        source[0] = nbformat.writes(notebook)
        return
    text = LINK.sub(lambda link: led(link, folder), source[0].replace(" ± ", NARROW))
    titled = text if text.startswith(("# ", "<!--")) else f"# {page.replace('/', ' ')}\n\n{text}"
    source[0] = titled + CONTENTS if page == root_doc else titled


def led(link: re.Match, folder: Path) -> str:
    """A link to a folder as its text; to an executed notebook's page for code hosts, as the notebook."""
    text, target = link.groups()
    if (folder / target).is_dir():
        return text
    target = EXECUTED.sub(r"\1.ipynb", target)
    return f"[{text}]({target})"


def write_math(translator, node: Math) -> None:
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def lead_to_root(app, problem: Exception | None) -> None:
    page = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={root_doc}.html"><title>hgrl</title>\n'
    Path(app.outdir, "index.html").write_text(page)


def setup(app) -> None:
    app.add_config_value("profile", "mini", "env", str)
    app.connect("source-read", read_source)
    app.connect("build-finished", lead_to_root)
    app.add_html_math_renderer("mathml", (write_math, None), (write_math, None))
