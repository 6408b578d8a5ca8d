"""Bars: at once where somebody watches, and a line now and then where nobody does."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from hgrl.core import progress
from hgrl.core.progress import bar


def test_a_bar_over_an_iterable_and_one_by_hand(capsys):
    assert list(bar(range(5), desc="counting")) == [0, 1, 2, 3, 4]
    with bar(total=10, desc="by hand") as by_hand:
        by_hand.update(4)
        by_hand.update(6)
    log = capsys.readouterr().err
    assert "counting: 100%" in log and "5/5" in log and "by hand: 100%" in log and "10/10" in log


@pytest.mark.parametrize("plain", [True, False])
def test_a_log_gets_at_most_a_line_every_ten_seconds(monkeypatch, plain):
    if plain:
        monkeypatch.setenv(progress.PLAIN, "1")
    else:
        monkeypatch.setattr(progress, "_is_watched", lambda: False)
    with bar(total=3) as seen:
        assert (seen.mininterval, seen.maxinterval) == (10, 10)


def test_a_terminal_gets_a_bar_at_once():
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    program = "from hgrl.core.progress import bar; list(bar(range(3), desc='seen'))"
    subprocess.run([sys.executable, "-c", program], stderr=theirs, check=True)
    assert b"seen" in os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)
