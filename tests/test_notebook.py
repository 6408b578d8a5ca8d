"""Notebooks run headlessly: the executed copy, the failed copy, and one line for what goes wrong."""

import os

import nbformat
import papermill
import pytest
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import DeadKernelError

from hgrl import __main__ as cli
from hgrl.core import progress
from hgrl.core.errors import InputError
from hgrl.core.experiment import load_experiment
from hgrl.core.notebook import IN_PIPELINE, run_notebook


@pytest.fixture
def small(home):
    """`home` with the profile `tiny`, the run `ours`, and a notebook of one parameters cell and one that uses
    them.
    """
    (home / "notebooks").mkdir()
    write_notebook(
        home, "from hgrl.core.progress import bar\nlist(bar(range(3), desc='counting'))\nprint(profile, run)"
    )
    return home


def write_notebook(home, source):
    parameters = nbformat.v4.new_code_cell(
        "profile = 'smoke'\nrun = 'none'", metadata={"tags": ["parameters"]}
    )
    cells = [parameters, nbformat.v4.new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), home / "notebooks/00_small.ipynb")


def outputs(path):
    return "".join(
        output.get("text", "") for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", ())
    )


def test_an_executed_notebook_lies_among_the_artefacts_and_its_bars_reach_the_log(small, capfd):
    before = (small / "notebooks/00_small.ipynb").read_bytes()
    experiment = load_experiment("tiny")
    earlier = experiment.files.notebook("00_small-ours").with_suffix(".failed.ipynb")
    earlier.parent.mkdir(parents=True)
    earlier.write_text("an earlier attempt")
    target = run_notebook("00_small", experiment, {"run": "ours"})
    assert target == experiment.files.notebook("00_small-ours")
    assert "tiny ours" in outputs(target)
    assert "counting: 100%" in capfd.readouterr().err and progress.PLAIN not in os.environ
    assert (small / "notebooks/00_small.ipynb").read_bytes() == before
    # no temporary file, no failed one
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize(("name", "value", "expected"), [("runs", "all", "True"), ("own", "a", "False")])
def test_figures_are_results_only_with_the_pipelines_own_parameters(small, name, value, expected):
    write_notebook(small, f"import os\nprint({IN_PIPELINE!r} in os.environ)")
    assert outputs(run_notebook("00_small", load_experiment("tiny"), {name: value})).strip() == expected
    assert IN_PIPELINE not in os.environ


def test_a_failed_notebook_is_one_line_and_keeps_what_it_did_and_the_former_copy(small, capsys):
    target = load_experiment("tiny").files.notebook("00_small")
    target.parent.mkdir(parents=True)
    target.write_text("the former copy")
    write_notebook(
        small,
        "print('so far')\nfrom hgrl.core.errors import InputError\nraise InputError('a.png: bad; remove it')",
    )
    assert cli.main(["notebook", "00_small", "tiny"]) == 1
    failed = target.with_suffix(".failed.ipynb")
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hgrl: ")]
    assert error == [
        f"hgrl: 00_small: InputError: a.png: bad; remove it (the notebook as far as it came: {failed})"
    ]
    assert "so far" in outputs(failed)
    shown = [
        output
        for cell in nbformat.read(failed, 4).cells
        for output in cell.get("outputs", ())
        if output.output_type == "error"
    ]
    assert shown[0].traceback == ["InputError: a.png: bad; remove it"]  # a reader sees no stack either
    assert target.read_text() == "the former copy"


@pytest.mark.parametrize(("arguments", "words"), [
    (["00_smal", "tiny"], "no such notebook; choose one of: 00_small"),
    (["00_small", "tin"], "choose one of: tiny"),
    (["00_small", "tiny", "--run", "oars"], "no run named 'oars'; choose one of: ours"),
])  # fmt: skip
def test_what_does_not_exist_is_one_line_before_a_kernel_starts(small, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(papermill, "execute_notebook", lambda *args, **options: pytest.fail("started"))
    assert cli.main(["notebook", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not (small / "artifacts").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [(DeadKernelError("died"), "lower `jobs`"), (NoSuchKernel("python3"), "no kernel 'python3'")],
)
def test_a_kernel_that_dies_or_does_not_exist_is_one_line(small, monkeypatch, error, words):
    def execute(*args, **options):
        raise error

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(InputError, match=words):
        run_notebook("00_small", load_experiment("tiny"), {})


def test_a_run_that_the_profile_leaves_out_is_said_everywhere_and_not_executed(small):
    (small / "profiles/paper.yaml").write_text("seeds: [0]\n")
    runs = "far: {method: moco, profiles: [paper]}, here: {method: moco, checkpoint_of: far}"
    (small / "params.yaml").write_text(f"runs: {{{runs}}}\n")
    experiment = load_experiment("tiny")
    for run in ("far", "here"):
        target = run_notebook("00_small", experiment, {"run": run})
        assert f"`{run}`: not in this profile" in nbformat.read(target, 4).cells[0].source
        said = experiment.files.checkpoints(run) / "left_out.txt"
        assert said.read_text() == "not in this profile\n"
        result = experiment.files.result("pretraining", run)
        assert '"left_out": "not in this profile"' in result.read_text()
        assert result.with_suffix(".csv").read_text() == "seed,step,loss\n"
