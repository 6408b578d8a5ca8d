"""Fingerprints change with what a result depends on, and with nothing else; scores are read only whole."""

import shutil

import pytest

from hgrl.core import cache
from hgrl.core.cache import code_fingerprint, fingerprint, imported_modules, store_scores, stored_scores

TREES = "hgrl.grouping.group"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package whose files may be edited."""
    copy = shutil.copytree(
        cache.PACKAGE, tmp_path / "hgrl", ignore=shutil.ignore_patterns("__pycache__", "models")
    )
    monkeypatch.setattr(cache, "PACKAGE", copy)
    return copy


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_fingerprints_are_of_values_and_of_files_contents(tmp_path):
    file = tmp_path / "file"
    assert (
        fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
    )
    missing = fingerprint(file)
    file.write_text("one")
    one = fingerprint(file)
    file.write_text("two")
    assert len({missing, one, fingerprint(file)}) == 3


def test_what_a_module_imports_is_found_at_any_depth_and_plumbing_is_not(package):
    found = imported_modules(TREES)
    assert {"hgrl.grouping.hierarchy", "hgrl.grouping.merge_tree", "hgrl.data.images"} <= found.keys()
    assert [name for name in found if name.startswith("hgrl.core")] in ([], ["hgrl.core.labels"])
    assert all(path.is_file() for path in found.values())
    (package / "grouping/watershed_of_ours.py").write_text("LEVEL = 1\n")
    edit(
        package / "grouping/hierarchy.py",
        "import numpy as np\n",
        "import numpy as np\n\ndef late():\n    from hgrl.grouping.watershed_of_ours import LEVEL\n",
    )
    assert "hgrl.grouping.watershed_of_ours" in imported_modules(TREES)


def test_a_package_that_is_left_out_is_not_followed():
    both = imported_modules("hgrl.grouping.group", without=("hgrl.grouping.spectral",))
    assert not any(name.startswith("hgrl.grouping.spectral") for name in both)
    assert "hgrl.grouping.spectral.mix" in imported_modules("hgrl.grouping.group")


def test_layout_comments_and_docstrings_change_no_fingerprint(package):
    before, file = code_fingerprint(TREES), package / "grouping/hierarchy.py"
    edit(file, '"""From an edge map', '"""Another docstring: from an edge map')
    edit(file, "import numpy as np\n", "import numpy as np  # a comment\n\n\n\n")
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(keepends=True) if not line.strip().startswith("#")
        )
    )
    assert code_fingerprint(TREES) == before
    edit(file, "SMOOTHING = 1.0", "SMOOTHING = 1.5")
    assert code_fingerprint(TREES) != before


def test_plumbing_has_no_say_and_imported_code_has(package):
    before = code_fingerprint(TREES)
    (package / "core/progress.py").write_text("def bar(*arguments, **options): ...\n")
    assert code_fingerprint(TREES) == before
    edit(package / "data/images.py", "BILINEAR", "BICUBIC")
    assert code_fingerprint(TREES) != before


def test_stored_scores_are_read_under_their_mark_alone(tmp_path):
    path = tmp_path / "scores.json"
    assert stored_scores(path, "mark") is None
    store_scores(path, "mark", {"miou": 0.25})
    assert stored_scores(path, "mark") == {"miou": 0.25} == stored_scores(path, None)
    assert stored_scores(path, "another") is None


@pytest.mark.parametrize(
    "damage", [lambda text: text.replace("0.25", "0.99"), lambda text: text[:40], lambda text: "[]"]
)
def test_edited_and_damaged_scores_are_not_taken_over(tmp_path, damage):
    path = tmp_path / "scores.json"
    store_scores(path, "mark", {"miou": 0.25})
    path.write_text(damage(path.read_text()))
    assert stored_scores(path, "mark") is None and stored_scores(path, None) is None


def test_scores_are_of_no_use_without_the_file_beside_them(tmp_path):
    path, beside = tmp_path / "scores.json", tmp_path / "matrices.npz"
    beside.write_bytes(b"matrices")
    store_scores(path, "mark", 1, beside)
    assert stored_scores(path, "mark", beside) == 1
    beside.write_bytes(b"others")
    assert stored_scores(path, "mark", beside) is None
    beside.unlink()
    assert stored_scores(path, "mark", beside) is None
