"""Artefacts: whole or not at all, and equal content gives equal bytes."""

import errno
import os
import subprocess
import sys

import pytest
from matplotlib.figure import Figure

from hgrl.core import files
from hgrl.core.errors import InputError


def parts(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_a_file_appears_only_when_its_block_ends_well(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    with files.replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert parts(path.parent) == []
    assert path.stat().st_mode & 0o444 == 0o444  # not private, as temporary files are


def test_an_exception_in_the_block_keeps_what_stood_there(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert parts(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file.json"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        InputError, match=r"file\.json: cannot be written \(No space left on device\); free some disk space"
    ) as caught:
        files.write_json(path, {"a": 1})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert parts(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        files.write_text(tmp_path / "file" / "inside.txt", "x")


def test_a_kill_in_the_middle_of_a_write_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    script = (
        "import os, sys; from pathlib import Path; from hgrl.core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == 9
    assert path.read_bytes() == b"old"
    files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


def test_equal_content_gives_equal_bytes(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, 2.5], "a": {"y": None, "x": True}})
    files.write_json(tmp_path / "b.json", {"a": {"x": True, "y": None}, "b": [1, 2.5]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": {"x": True, "y": None}, "b": [1, 2.5]}


@pytest.mark.parametrize("content, reason", [(None, "no such file"), ("{", "not valid JSON")])
def test_unreadable_json_is_one_line_with_the_remedy(tmp_path, content, reason):
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"scores\.json: {reason}.*dvc repro"):
        files.read_json(path)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_figures_give_equal_bytes(tmp_path, kind):
    paths = [tmp_path / folder / f"figure.{kind}" for folder in "ab"]
    for path in paths:
        figure = Figure()
        figure.add_subplot().plot([0, 1])
        files.write_figure(path, figure)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    parts = [tmp_path / f".a.json.{process}-x1.part" for process in (int(dead.stdout), os.getpid())]
    deep = tmp_path / "deep" / f".b.npz.{int(dead.stdout)}-x2.part"
    deep.parent.mkdir()
    for path in (*parts, deep, tmp_path / "c.part"):
        path.write_bytes(b"half")
    files.remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {parts[1].name, "c.part"}
    files.remove_unfinished(tmp_path / "nowhere")
