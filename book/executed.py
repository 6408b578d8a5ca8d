"""Notebooks as a reader without a kernel can have them: executed, and without what only lives in a kernel."""

import re

import nbformat

from hgrl.core import paths
from hgrl.core.experiment import Experiment
from hgrl.core.notebook import run_notebook

CONTROL = "application/vnd.jupyter.widget-view+json"
NOTE = "*Sliders and menus stand here in the live notebook: `make lab`.*"
INJECTED = "injected-parameters"  # papermill's tag
Notebook = nbformat.NotebookNode
Cells = list[tuple[str, str]]


def executed_notebook(experiment: Experiment, name: str) -> Notebook:
    """A notebook's executed copy: one that is there, the pipeline's included, if its cells are today's; else
    made here as by Run All, where nothing is trained."""
    today = written_cells(nbformat.read(paths.HOME / "notebooks" / f"{name}.ipynb", as_version=4))
    for own in (f"{name}-make=False", name):
        copy = experiment.files.notebook(own)
        if copy.exists() and written_cells(notebook := nbformat.read(copy, as_version=4)) == today:
            return notebook
    return nbformat.read(run_notebook(name, experiment, {"make": False}), as_version=4)


def written_cells(notebook: Notebook) -> Cells:
    """Kind and source of the cells that somebody wrote."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells if not _is_injected(cell)]


def _is_injected(cell: Notebook) -> bool:
    return INJECTED in cell.metadata.get("tags", [])


def without_live_parts(notebook: Notebook) -> Notebook:
    """Without injected parameters and bars; controls become a note, coloured and rewritten lines text."""
    notebook.cells = [cell for cell in notebook.cells if not _is_injected(cell)]
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in outputs if CONTROL not in output.get("data", {})]
            if len(cell.outputs) < len(outputs):
                note = nbformat.v4.new_output("display_data", {"text/markdown": NOTE, "text/plain": NOTE})
                cell.outputs.insert(0, note)
            for output in cell.outputs:
                if output.output_type == "stream":
                    output.text = re.sub(
                        r"\x1b\[[\d;]*m|^[^\n]*\r(?!\n)", "", output.text, flags=re.MULTILINE
                    )
    return notebook
