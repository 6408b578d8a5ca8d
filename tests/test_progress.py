"""Bars reach the log that the environment names, and never stop the work."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from tqdm.std import tqdm as terminal

from hgrl.core import progress
from hgrl.core.progress import STREAM, bar


def test_a_bar_goes_to_the_stream_that_the_environment_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(STREAM, str(tmp_path / "log"))
    assert list(bar(range(5), desc="counting")) == [0, 1, 2, 3, 4]
    with bar(total=10, desc="by hand") as by_hand:
        by_hand.update(4)
        by_hand.update(6)
    log = (tmp_path / "log").read_text()
    assert "counting: 100%" in log and "5/5" in log and "by hand: 100%" in log and "10/10" in log
    assert log.count("counting") < 5  # a log gets a line now and then, not one a step
    assert capsys.readouterr().err == ""


def test_without_a_stream_a_bar_goes_to_stderr(monkeypatch, capsys):
    monkeypatch.delenv(STREAM, raising=False)
    assert list(bar(range(3), desc="here")) == [0, 1, 2]
    assert "here: 100%" in capsys.readouterr().err


def test_a_terminal_gets_a_bar_at_once(monkeypatch):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    monkeypatch.setenv(STREAM, os.ttyname(theirs))
    assert list(bar(range(3), desc="seen")) == [0, 1, 2]
    assert b"seen" in os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)


def test_a_stream_that_is_gone_does_not_stop_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(STREAM, str(tmp_path / "no folder" / "log"))
    assert list(bar(range(3), desc="elsewhere")) == [0, 1, 2]
    assert "elsewhere: 100%" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
# the file's own close fails too
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_stream_that_takes_no_more_does_not_stop_the_work(monkeypatch):
    monkeypatch.setenv(STREAM, "/dev/full")
    assert list(bar(range(3))) == [0, 1, 2]


def test_a_reader_that_goes_away_does_not_stop_the_work(monkeypatch):
    read, write = os.pipe()
    monkeypatch.setenv(STREAM, f"/dev/fd/{write}")
    work = iter(bar(range(4), desc="alone"))
    assert next(work) == 0
    os.close(read)
    assert list(work) == [1, 2, 3]
    os.close(write)


def test_a_child_can_write_to_the_stream_of_its_parent():
    """As `run_notebook` does: the kernel gets its starter's stderr by name."""
    child = "from hgrl.core.progress import bar; list(bar(range(2), desc='from the child'))"
    parent = f"""
import os, subprocess, sys
from hgrl.core.progress import terminal_name
subprocess.run([sys.executable, "-c", {child!r}], env={{**os.environ, {STREAM!r}: terminal_name()}}, stderr=subprocess.DEVNULL, check=True)
"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert "from the child: 100%" in done.stderr


def test_options_reach_the_bar(tmp_path, monkeypatch):
    monkeypatch.setenv(STREAM, str(tmp_path / "log"))
    hidden = bar(range(2), desc="hidden", disable=True)
    assert isinstance(hidden, terminal) and list(hidden) == [0, 1]
    assert (tmp_path / "log").read_text() == ""
    assert progress.STREAM == "HGRL_PROGRESS"
