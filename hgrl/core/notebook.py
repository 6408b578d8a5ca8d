"""Run a numbered notebook headlessly, with papermill, as one stage of the pipeline."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat

from hgrl.core import paths, progress
from hgrl.core.errors import InputError
from hgrl.core.files import write_text
from hgrl.core.left_out import write_reason
from hgrl.core.settings import left_out, load_settings


def run_notebook(name: str, parameters: dict[str, str]) -> Path:
    """Execute `notebooks/<name>.ipynb` with `parameters`; the executed copy goes to the profile's artefacts.

    Bars of the kernel and of its worker processes appear on this process's terminal or log. Raises InputError
    with the notebook's own one-line error; the half-executed copy is kept beside the target as
    `<name>.failed.ipynb`. A wrong profile or run is refused before a kernel starts. Of a run that the profile
    leaves out the copy says so, and nothing is executed.
    """
    source = paths.HOME / "notebooks" / f"{name}.ipynb"
    if not source.exists():
        known = ", ".join(sorted(path.stem for path in source.parent.glob("*.ipynb")))
        raise InputError(f"{source}: no such notebook; choose one of: {known}")
    load_settings(parameters["profile"], parameters.get("run"))  # a wrong one is refused at once
    target = paths.executed_notebook(
        parameters["profile"], "-".join([name, *filter(None, [parameters.get("run")])])
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    if (run := parameters.get("run")) and (reason := left_out(parameters["profile"], run)):
        write_reason(parameters["profile"], run, reason)
        print(f"run {run!r} is left out: {reason}")
        write_text(
            target,
            nbformat.writes(
                nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"Run `{run}`: {reason}.")])
            ),
        )
        return target
    if terminal := progress.terminal_name():
        os.environ.setdefault(progress.STREAM, terminal)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        executed = Path(folder) / target.name
        _execute(source, executed, parameters, target.with_suffix(".failed.ipynb"))
        executed.replace(target)
    target.with_suffix(".failed.ipynb").unlink(missing_ok=True)  # of an earlier attempt
    return target


def _execute(source: Path, executed: Path, parameters: dict[str, str], failed: Path) -> None:
    import papermill  # here: it takes more than a second, which a run that is left out need not wait for
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name = source.stem
    try:
        papermill.execute_notebook(source, executed, parameters, progress_bar=False, kernel_name="python3")
    except PapermillExecutionError as error:
        executed.replace(failed)
        raise InputError(
            f"{name}: {error.ename}: {error.evalue} (the notebook as far as it came: {failed})"
        ) from None
    except DeadKernelError:
        raise InputError(
            f"{name}: its kernel was killed, most likely for want of memory; lower `jobs` and run again"
        ) from None
    except NoSuchKernel:
        raise InputError(
            f"{name}: Jupyter finds no kernel 'python3'; run `make setup`, or install ipykernel here"
        ) from None
