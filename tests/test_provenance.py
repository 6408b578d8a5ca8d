"""Fingerprints change with what they stand for, and with nothing else."""

import json
import shutil
import time

import pytest

from hgrl.core import provenance
from hgrl.core.provenance import CODE, PACKAGE, code_fingerprint, fingerprint, machine


def test_a_fingerprint_is_of_values_and_not_of_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1.5, None]}) == fingerprint({"b": [1.5, None], "a": 1})
    assert len(fingerprint({"a": 1})) == 16
    assert (
        len({fingerprint(*parts) for parts in ((1,), (2,), ("1",), (1, 2), (2, 1), ([1, 2],), (None,), ())})
        == 8
    )


def test_a_fingerprint_of_a_file_is_of_its_content_and_not_of_its_name_or_age(tmp_path):
    first, second, missing = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    first.write_text("x")
    second.write_text("x")
    assert fingerprint(first) == fingerprint(second) != fingerprint(missing)
    second.write_text("y")
    assert fingerprint(first) != fingerprint(second) != fingerprint(missing)
    assert fingerprint(first, second) != fingerprint(second, first)


def test_a_missing_file_is_no_file_of_that_text(tmp_path):
    (tmp_path / "a").write_text("missing")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit."""
    copy = shutil.copytree(PACKAGE, tmp_path / "hgrl", ignore=shutil.ignore_patterns("models", "__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    return copy


def test_the_code_fingerprint_is_the_same_for_a_copy(package, monkeypatch):
    copied = {stage: code_fingerprint(stage) for stage in CODE}
    monkeypatch.setattr(provenance, "PACKAGE", PACKAGE)
    assert copied == {stage: code_fingerprint(stage) for stage in CODE}


@pytest.mark.parametrize(("file", "stages"), [
    ("sampling.py", {"pretrain"}),
    ("methods/hierarchical.py", {"pretrain"}),
    ("probe.py", {"probe", "convergence"}),
    ("metrics/video.py", {"tracking"}),
    ("metrics/segmentation.py", {"probe", "convergence", "retrieval", "tracking"}),
    ("metrics/bsds.py", set()),
    ("network.py", {"pretrain", "probe", "convergence", "retrieval", "tracking"}),
    ("grouping/hierarchy.py", {"grouping"}),
    ("grouping/hed_training.py", {"grouping", "hed"}),
    ("data/scenes.py", {"data"}),
    ("figures.py", set()),
    ("evaluate.py", set()),
])  # fmt: skip
def test_the_code_fingerprint_changes_with_the_stages_own_modules(package, file, stages):
    before = {stage: code_fingerprint(stage) for stage in CODE}
    path = package / file
    path.write_text(path.read_text() + "\nchanged = True\n")
    assert {stage for stage in CODE if code_fingerprint(stage) != before[stage]} == stages


def test_a_new_module_in_a_listed_folder_changes_the_fingerprint_and_a_compiled_one_does_not(package):
    before = code_fingerprint("pretrain")
    (package / "methods/__pycache__").mkdir()
    (package / "methods/__pycache__/base.cpython-311.pyc").write_bytes(b"x")
    assert code_fingerprint("pretrain") == before
    (package / "methods/rival.py").write_text("x = 1\n")
    assert code_fingerprint("pretrain") != before


def test_left_out_modules_do_not_count(package):
    """So that a new method leaves the checkpoints of the others: they follow their own files
    (`hgrl.pretraining.methods.method_files`).
    """
    before = code_fingerprint("pretrain", leave_out=("methods",))
    (package / "methods/rival.py").write_text("x = 1\n")
    assert code_fingerprint("pretrain", leave_out=("methods",)) == before
    (package / "pretrain.py").write_text("x = 1\n")
    assert code_fingerprint("pretrain", leave_out=("methods",)) != before


def test_the_machine_is_described_in_json():
    found = json.loads(json.dumps(machine(time.monotonic() - 2)))
    assert 2 <= found["seconds"] < 60
    assert found["processor"] and found["cores"] >= 1
    assert found["versions"].keys() == set(provenance.PACKAGES)
