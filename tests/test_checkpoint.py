"""Checkpoints: what comes back is what was saved, and a bad file is one line, never code that runs."""

import errno
import math
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hgrl.core.checkpoint import Checkpoint, load_checkpoint, remove_aside, save_checkpoint, set_aside
from hgrl.core.errors import InputError
from hgrl.core.settings import PretrainSettings
from hgrl.pretraining.checkpoints import (
    CheckpointKeeper,
    companions,
    older_file,
    older_files,
    remove_companions,
    snapshot_file,
    snapshot_step,
)

IDENTITY = {"method": "ours", "seed": 0, "settings": {"network": {"width": 8}, "sampling": {"cns": [5, 20]}}}


def made(step=3, **changes):
    generator = torch.Generator().manual_seed(step)
    weights = torch.randn(50, 4, generator=generator)
    parts = {
        "identity": IDENTITY,
        "step": step,
        "total_steps": 10,
        "method": {"network.weight": weights, "network.count": torch.tensor(7)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": weights * 2}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}],
        },
        "random_states": {"torch": torch.get_rng_state()},
        "losses": torch.arange(step, dtype=torch.float32),
    }
    return Checkpoint(**(parts | changes))


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a == b


def test_round_trip(tmp_path):
    saved = made()
    save_checkpoint(tmp_path / "new" / "seed0.pt", saved)
    loaded = load_checkpoint(tmp_path / "new" / "seed0.pt")
    for name in Checkpoint.__dataclass_fields__:
        assert equal(getattr(saved, name), getattr(loaded, name)), name


def test_complete_when_all_steps_are_done():
    assert not made(9).complete and made(10).complete


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_cut_off_anywhere_is_named(tmp_path, share):
    path = tmp_path / "seed0.pt"
    save_checkpoint(path, made())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        InputError, match=r"seed0\.pt: damaged, or not a checkpoint.*delete it and train again"
    ) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"seed0\.pt: no such checkpoint; run"):
        load_checkpoint(tmp_path / "seed0.pt")


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path, write):
    path, target = tmp_path / "seed0.pt", tmp_path / "exploded"
    if write == "torch":
        torch.save({"identity": Bomb(target)}, path)
    else:
        path.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(InputError, match=r"seed0\.pt"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", bytes(range(256)) * 4, b"\x80\x02}q\x00."]
)
def test_any_other_file_is_refused(tmp_path, content):
    path = tmp_path / "seed0.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"seed0\.pt"):
        load_checkpoint(path)


def test_random_bytes_are_refused(tmp_path):
    path, generator = tmp_path / "seed0.pt", torch.Generator().manual_seed(0)
    for _ in range(200):
        body = torch.randint(256, (40,), generator=generator, dtype=torch.uint8).numpy().tobytes()
        path.write_bytes(b"\x80\x02" + body)
        with pytest.raises(InputError, match=r"seed0\.pt"):
            load_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"weights": torch.zeros(2)}, torch.zeros(3)])
def test_other_contents_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "seed0.pt")
    with pytest.raises(InputError, match=r"seed0\.pt: damaged, or not a checkpoint"):
        load_checkpoint(tmp_path / "seed0.pt")


def test_a_checkpoint_of_other_settings_says_which(tmp_path):
    other = {
        "method": "ours",
        "seed": 0,
        "settings": {"network": {"width": 16}, "sampling": {"cns": [5, 20]}},
    }
    made().require(IDENTITY, tmp_path / "seed0.pt")
    assert made().differing(IDENTITY) == []
    assert made().differing(other) == ["network.width"]
    with pytest.raises(
        InputError, match=r"seed0\.pt: made with other settings: network\.width \(8 there, 16 now\)"
    ):
        made().require(other, tmp_path / "seed0.pt")


def test_a_setting_that_only_one_of_them_has_differs():
    assert made().differing(IDENTITY | {"origin": "abc"}) == ["origin"]
    assert made(identity=IDENTITY | {"origin": "abc"}).differing(IDENTITY) == ["origin"]


def test_a_full_disk_keeps_the_former_checkpoint(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "seed0.pt"
    save_checkpoint(path, made(3))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"seed0\.pt: cannot be written \(No space left on device\)"):
        save_checkpoint(path, made(6))
    assert load_checkpoint(path).step == 3
    assert [file.name for file in tmp_path.iterdir()] == ["seed0.pt"]


WRITE = """
import signal, sys
from pathlib import Path
import torch
from hgrl.core.checkpoint import Checkpoint, save_checkpoint
from hgrl.core.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    weights = {"weights": torch.randn(100_000)}
    save_checkpoint(Path(sys.argv[1]), Checkpoint({}, 6, 10, weights, {}, {}, torch.zeros(6)))
except InputError as error:
    print(error)
    sys.exit(3)
"""


def test_a_disk_that_refuses_in_the_middle_of_the_write_keeps_the_former_checkpoint(tmp_path):
    """The system itself stops the write after 50 kB of 400."""
    path = tmp_path / "seed0.pt"
    save_checkpoint(path, made(3))
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))}
    done = subprocess.run([sys.executable, "-c", WRITE, str(path)], capture_output=True, text=True, **limit)
    assert (done.returncode, done.stderr) == (3, "")
    assert "seed0.pt: cannot be written (File too large)" in done.stdout
    assert load_checkpoint(path).step == 3
    assert [file.name for file in tmp_path.iterdir()] == ["seed0.pt"]


@pytest.mark.parametrize("step", range(7))
def test_no_flipped_byte_gives_another_content(tmp_path, step):
    """Every seventh byte of a file, one after the other: the content is as before, or the file is refused."""
    path, saved = tmp_path / "seed0.pt", made()
    save_checkpoint(path, saved)
    content = path.read_bytes()
    refused = 0
    for place in range(step, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        try:
            loaded = load_checkpoint(path)
        except InputError as error:
            assert "seed0.pt: damaged, or not a checkpoint" in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert all(
                equal(getattr(saved, name), getattr(loaded, name)) for name in Checkpoint.__annotations__
            )
    assert refused > len(content) / 7 / 4


def test_a_flipped_bit_of_a_tensor_is_named(tmp_path):
    """torch itself loads it without a word."""
    path, saved = tmp_path / "seed0.pt", made()
    save_checkpoint(path, saved)
    content, weights = bytearray(path.read_bytes()), saved.method["network.weight"].numpy().tobytes()
    content[content.index(weights) + 100] ^= 1
    path.write_bytes(content)
    there = torch.load(path, weights_only=True)["method"]["network.weight"]
    assert not torch.equal(there, saved.method["network.weight"])
    with pytest.raises(InputError, match=r"seed0\.pt: damaged.*the checksum of .*data/\d+ does not fit"):
        load_checkpoint(path)


def test_what_is_set_aside_overwrites_nothing_and_goes_with_its_companions(tmp_path):
    aside, places = tmp_path / "stale" / "seed1.pt", []
    for content in ("a", "b", "c"):
        (tmp_path / "seed1.pt").write_text(content)
        places.append(set_aside(tmp_path / "seed1.pt", aside))
    assert [(place.name, place.read_text()) for place in places] == [
        ("seed1.pt", "a"), ("seed1~2.pt", "b"), ("seed1~3.pt", "c"),
    ]  # fmt: skip
    for name in ("seed1.at020.pt", "seed10.pt"):
        (aside.parent / name).write_text("")
    remove_aside(aside)
    assert names(aside.parent) == ["seed10.pt"]


# What lies beside the newest checkpoint


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def keeper(path, keep_last=2):
    schedule = PretrainSettings(keep_last=keep_last)
    return CheckpointKeeper(SimpleNamespace(path=path, identity=IDENTITY, steps=10, schedule=schedule))


@pytest.mark.parametrize("keep_last, left", [(1, []), (2, [9]), (3, [6, 9]), (9, [3, 6, 9])])
def test_the_last_few_stay(tmp_path, keep_last, left):
    path = tmp_path / "seed0.pt"
    for step in (3, 6, 9, 10):
        keeper(path, keep_last).save(made(step))
    assert names(tmp_path) == ["seed0.pt", *(f"seed0.step{step:06d}.pt" for step in left)]
    assert load_checkpoint(path).step == 10
    assert [load_checkpoint(file).step for file in older_files(path)] == left[::-1]


def test_a_full_disk_leaves_the_last_few_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "seed0.pt"
    for step in (3, 6):
        keeper(path).save(made(step))
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"seed0\.pt: cannot be written \(No space left on device\); free some disk space"
    ):
        keeper(path).save(made(9))
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_without_links_the_former_one_is_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    for step in (3, 6):
        keeper(tmp_path / "seed0.pt").save(made(step))
    assert [load_checkpoint(tmp_path / name).step for name in ("seed0.pt", "seed0.step000003.pt")] == [6, 3]


def test_a_damaged_newest_one_gets_no_second_name(tmp_path):
    path = tmp_path / "seed0.pt"
    path.write_bytes(b"damaged")
    keeper(path).save(made(3))
    assert names(tmp_path) == ["seed0.pt"]


def test_the_names_of_snapshots_and_their_steps():
    path = Path("runs/seed0.pt")
    assert snapshot_file(path, 0.2) == Path("runs/seed0.at020.pt")
    assert [snapshot_file(path, share).name for share in (0.07, 1.0)] == ["seed0.at007.pt", "seed0.at100.pt"]
    assert [snapshot_step(share, 186) for share in (0.001, 0.2, 0.5, 1.0)] == [1, 37, 93, 186]


def test_companions_of_a_run_are_deleted_and_nothing_else(tmp_path):
    checkpoints = ["seed1.at020.pt", "seed1.step000120.pt", "seed1.step1234567.pt"]
    unfinished = [".seed1.pt.x1.part", ".seed1.at020.pt.x1.part"]
    others = ["seed1.pt", "seed10.pt", "seed10.at020.pt", "seed1.txt", "seed1.notes.pt", ".seed10.pt.x1.part"]
    for name in (*checkpoints, *unfinished, *others):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in companions(tmp_path / "seed1.pt")] == sorted(checkpoints)
    remove_companions(tmp_path / "seed1.pt", {tmp_path / "seed1.at020.pt"})
    assert names(tmp_path) == sorted(["seed1.at020.pt", *others])
    remove_companions(tmp_path / "seed1.pt")
    assert names(tmp_path) == sorted(others)
    remove_companions(tmp_path / "nowhere" / "seed1.pt")


def test_a_damaged_checkpoint_is_replaced_by_the_last_good_one_of_the_same_run(tmp_path, capsys):
    path = tmp_path / "seed0.pt"
    keeper(path).restore_last_good()
    assert names(tmp_path) == []
    for step in (3, 5):
        save_checkpoint(older_file(path, step), made(step))
    save_checkpoint(snapshot_file(path, 0.7), made(7, identity=IDENTITY | {"seed": 1}))
    older_file(path, 8).write_bytes(b"damaged")
    path.write_bytes(b"damaged")
    keeper(path).restore_last_good()
    assert load_checkpoint(path).step == 5
    (line,) = capsys.readouterr().out.splitlines()
    assert "seed0.pt: damaged" in line
    assert line.endswith("training resumes from seed0.step000005.pt, step 5 of 10")
    keeper(path).restore_last_good()
    assert capsys.readouterr().out == ""


def test_good_weights_are_not_replaced_by_those_that_are_not_finite(tmp_path):
    path = tmp_path / "seed0.pt"
    keeper(path).save(made(3))
    bad = made(6, method={"network.weight": torch.tensor([1.0, math.nan])})
    for write in (keeper(path).save, keeper(path).save_snapshots):
        with pytest.raises(
            InputError, match=r"network\.weight is not finite after step 5 of 10; the last good"
        ):
            write(bad)
    assert load_checkpoint(path).step == 3
