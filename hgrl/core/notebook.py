"""Run a numbered notebook headlessly, with papermill, as one stage of the pipeline."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat

from hgrl.core import paths, progress
from hgrl.core.errors import InputError
from hgrl.core.experiment import Experiment
from hgrl.core.files import write_text
from hgrl.core.left_out import write_reason

IN_PIPELINE = "HGRL_IN_PIPELINE"  # environment of a kernel whose figures are results


def run_notebook(name: str, experiment: Experiment, parameters: dict[str, str]) -> Path:
    """Execute `notebooks/<name>.ipynb` with `parameters`; the executed copy goes to the profile's artefacts.

    What the kernel prints, its bars among it, appears here as it comes. If the profile leaves out the run of
    `parameters`, the copy says so and nothing is executed. With parameters that dvc.yaml does not give, the
    copy is named after them and no figure is saved. Raises InputError with the notebook's own one-line error
    (the half-executed copy stays beside the target as `<name>.failed.ipynb`) and for an unknown run."""
    source = paths.HOME / "notebooks" / f"{name}.ipynb"
    if not source.exists():
        known = ", ".join(sorted(path.stem for path in source.parent.glob("*.ipynb")))
        raise InputError(f"{source}: no such notebook; choose one of: {known}")
    run = parameters.get("run")
    if run:
        experiment.run(run)  # an unknown run, or a bad setting of one, is told before a kernel starts
    by_dvc = parameters in ({}, {"run": run}, {"runs": "all"})  # with other parameters, somebody explores
    own = [run] if by_dvc and run else [] if by_dvc else [f"{key}={parameters[key]}" for key in parameters]
    target = experiment.files.notebook("-".join([name, *own]).replace("/", "_"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if run and (reason := experiment.left_out(run)):
        write_reason(experiment.files, run, reason)
        print(f"run {run!r} is left out: {reason}")
        said = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"Run `{run}`: {reason}.")])
        write_text(target, nbformat.writes(said))
        return target
    failed = target.with_suffix(".failed.ipynb")
    environment = dict.fromkeys((progress.PLAIN, IN_PIPELINE) if by_dvc else (progress.PLAIN,), "1")
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        executed = Path(folder) / target.name
        given = {"profile": experiment.profile, "make": True} | parameters
        _execute(source, executed, given, failed, environment)
        executed.replace(target)
    failed.unlink(missing_ok=True)  # of an earlier attempt
    return target


def _execute(
    source: Path, executed: Path, parameters: dict[str, Any], failed: Path, environment: dict[str, str]
) -> None:
    import papermill  # here: it takes a second, which a run that is left out need not wait
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    name, streams = source.stem, {"stdout_file": sys.stdout, "stderr_file": sys.stderr}
    os.environ |= environment  # for the kernel
    try:
        papermill.execute_notebook(
            source, executed, parameters, progress_bar=False, kernel_name="python3", **streams
        )
    except PapermillExecutionError as error:
        executed.replace(failed)
        said = f"{name}: {error.ename}: {error.evalue} (the notebook as far as it came: {failed})"
        raise InputError(said) from None
    except DeadKernelError:
        remedy = "most likely for want of memory; lower `jobs` and run again"
        raise InputError(f"{name}: its kernel was killed, {remedy}") from None
    except NoSuchKernel:
        remedy = "run `make setup`, or install ipykernel here"
        raise InputError(f"{name}: Jupyter finds no kernel 'python3'; {remedy}") from None
    finally:
        for variable in environment:
            del os.environ[variable]
