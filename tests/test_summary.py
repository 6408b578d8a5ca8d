"""What `python -m hgrl report` says: it looks, and promises nothing that is not there."""

import shutil

import pytest

from hgrl import __main__ as cli
from hgrl.core import paths
from hgrl.core.experiment import load_experiment
from hgrl.core.files import write_text
from hgrl.reporting.summary import summarise_results


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A fresh clone: what is committed, without the large artefacts."""
    for name in ("profiles", "notebooks", "results/mini"):
        shutil.copytree(paths.HOME / name, tmp_path / name)
    shutil.copy(paths.PARAMS, tmp_path)
    monkeypatch.setattr(paths, "HOME", tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params.yaml")
    return tmp_path


def test_a_fresh_clone_has_results_and_no_executed_notebooks(clone, capsys):
    assert cli.main(["report"]) == 0
    there, _, lacking = capsys.readouterr().out.partition("lacks")
    assert "Everything" not in there and "results/mini/tables/" in there and "results/mini/figures/" in there
    assert "artifacts" not in there and "artifacts/mini/notebooks/" in lacking
    assert "`python -m hgrl repro --profile mini` makes" in lacking
    named = [line.split()[-1] for line in there.splitlines() if line.endswith("/")]
    assert named and all((clone / folder).is_dir() for folder in named)


def test_each_missing_file_is_named(clone):
    (clone / "results/mini/tables/table2.md").unlink()
    (clone / "results/mini/claims.md").unlink()
    there, _, lacking = summarise_results(load_experiment("mini")).partition("lacks")
    assert "results/mini/tables/\n" in there and "results/mini/tables/ without table2.md" in lacking
    assert "claims" not in there and "claims:" in lacking


def test_when_nothing_is_missing_it_says_so(clone):
    for notebook in (clone / "notebooks").iterdir():
        write_text(clone / "artifacts/mini/notebooks" / notebook.name, "{}")
    text = summarise_results(load_experiment("mini"))
    assert "lacks" not in text and "Nothing is missing." in text
    executed = clone / "artifacts/mini/notebooks/02_sampling.ipynb"
    executed.rename(executed.with_suffix(".failed.ipynb"))  # half executed
    assert "without 02_sampling*.ipynb" in summarise_results(load_experiment("mini"))


def test_a_profile_that_was_never_made_has_nothing(clone):
    text = summarise_results(load_experiment("photos"))
    assert "has" not in text.split() and "artifacts/photos/figures/" in text
