"""The training loop: resumable to the bit, on schedule, and it stops before it saves nonsense."""

import math
import shutil

import pytest
import torch
from jobs import job_of, train

from hgrl.core.cache import imported_modules
from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import PretrainSettings
from hgrl.pretraining import loop, methods
from hgrl.pretraining.checkpoints import snapshot_file
from hgrl.pretraining.loop import learning_rate, optimizer_of
from hgrl.pretraining.methods.base import Method


def assert_same(one, other):
    assert (one.step, one.total_steps, one.identity) == (other.step, other.total_steps, other.identity)
    for a, b in ((one.method, other.method), (one.random_states, other.random_states)):
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert torch.equal(one.losses, other.losses)
    first, second = one.optimizer, other.optimizer
    assert first["param_groups"] == second["param_groups"]
    for key, state in first["state"].items():
        assert all(torch.equal(value, second["state"][key][name]) for name, value in state.items())


class Noisy(Method):
    """A method that draws from torch's global random state, as dropout does."""

    def loss(self, batch):
        features = self.network(batch.flat_images.float() / 255)
        return (features * torch.randn_like(features)).square().mean(), {}


@pytest.fixture
def noisy(monkeypatch):
    monkeypatch.setitem(methods.REGISTRY, "noisy", Noisy)
    return "noisy"


@pytest.mark.parametrize("method", [name for name in methods.REGISTRY if name != "hierarchical"])
def test_every_method_resumes_bit_for_bit(dataset, settings, tmp_path, method):
    train(dataset, settings, tmp_path / "whole.pt", method=method)
    for stop in (1, 4, None):
        torch.manual_seed(999)
        train(dataset, settings, tmp_path / "parts.pt", method=method, stop_after=stop)
    whole = load_checkpoint(tmp_path / "whole.pt")
    assert whole.losses.isfinite().all()
    assert_same(whole, load_checkpoint(tmp_path / "parts.pt"))


@pytest.mark.parametrize("stops", [[1], [2], [3, 5], [1, 2, 3, 4, 5]])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(dataset, settings, tmp_path, stops):
    train(dataset, settings, tmp_path / "whole.pt")
    for stop in [*stops, None]:
        torch.manual_seed(999)  # whatever the process did in between
        train(dataset, settings, tmp_path / "parts.pt", stop_after=stop)
    assert_same(load_checkpoint(tmp_path / "whole.pt"), load_checkpoint(tmp_path / "parts.pt"))


def test_sgd_with_momentum_is_torchs_and_resumes_bit_for_bit(dataset, tiny, tmp_path):
    given = {"optimizer": "sgd", "momentum": 0.8, "weight_decay": 1e-3, "lr": 0.05}
    settings = tiny({f"pretrain.{key}": value for key, value in given.items()})
    train(dataset, settings, tmp_path / "whole.pt", method="moco")
    for stop in (1, 4, None):
        train(dataset, settings, tmp_path / "parts.pt", method="moco", stop_after=stop)
    whole = load_checkpoint(tmp_path / "whole.pt")
    assert_same(whole, load_checkpoint(tmp_path / "parts.pt"))
    (group,) = whole.optimizer["param_groups"]
    assert (group["momentum"], group["weight_decay"]) == (0.8, 1e-3) and "betas" not in group
    weight = torch.nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(1.0)
    optimizer = optimizer_of(weight, settings.pretrain, torch.device("cpu"))
    expected, velocity = 1.0, 0.0
    for gradient in (2.0, -1.0):
        weight.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        velocity = 0.8 * velocity + gradient + 1e-3 * expected
        expected -= 0.05 * velocity
    assert weight.weight.item() == pytest.approx(expected)


def test_a_method_that_uses_the_global_random_state_resumes_bit_for_bit(dataset, settings, tmp_path, noisy):
    train(dataset, settings, tmp_path / "whole.pt", method=noisy)
    for stop in (2, 5, None):
        torch.manual_seed(999)
        train(dataset, settings, tmp_path / "parts.pt", method=noisy, stop_after=stop)
    assert_same(load_checkpoint(tmp_path / "whole.pt"), load_checkpoint(tmp_path / "parts.pt"))


def test_seeds_differ_and_repeat(dataset, settings, tmp_path):
    first, again, other = (
        train(dataset, settings, tmp_path / f"{k}.pt", seed) for k, seed in enumerate((0, 0, 1))
    )
    assert_same(first, again)
    assert not torch.equal(first.losses, other.losses)


def test_a_complete_checkpoint_is_returned_as_it_is(dataset, settings, tmp_path):
    path, ticks = tmp_path / "seed0.pt", []
    trained = train(dataset, settings, path, tick=ticks.append)
    # 3 epochs of 8 images in fours
    assert trained.complete and trained.step == 6 == sum(ticks) == len(trained.losses)
    written, ticks[:] = path.stat().st_mtime_ns, []
    assert_same(trained, train(dataset, settings, path, tick=ticks.append))
    assert path.stat().st_mtime_ns == written and sum(ticks) == 6


OTHERS = [
    ({"network.width": 16}, r"network\.width \(8 there, 16 now\)"),
    ({"sampling.sigma_p": 0.4}, "sampling.sigma_p"),
]


@pytest.mark.parametrize("change, named", OTHERS)
def test_a_checkpoint_of_other_settings_is_refused_by_name(dataset, tiny, tmp_path, change, named):
    path = tmp_path / "seed0.pt"
    train(dataset, tiny(), path, stop_after=1)
    with pytest.raises(InputError, match=rf"seed0\.pt: made with other settings: {named}"):
        train(dataset, tiny(change), path)
    assert load_checkpoint(path).step == 1


def test_what_does_not_change_the_weights_does_not_hinder_resuming(dataset, tiny, tmp_path):
    def identity(settings, data=dataset, **changes):
        return job_of(data, settings, tmp_path / "seed0.pt", **changes).identity

    one = identity(tiny())
    others = {"workers": 4, "compile": True, "checkpoint_minutes": 1.0, "keep_last": 5, "snapshots": [0.5]}
    changes = {f"pretrain.{name}": value for name, value in others.items()}
    assert one == identity(tiny({**changes, "device": "cuda", "probe.lr": 1.0}))
    fewer = (dataset[0].subset(range(7)), dataset[1])
    for other in (identity(tiny(), fewer), identity(tiny(), seed=1), identity(tiny(), origin="code")):
        assert one != other


@pytest.mark.parametrize("change, stale", [
    ({"methods.moco.temperature": 0.2}, {"moco", "hierarchical-image"}),
    ({"sampling.sigma_p": 0.4}, {"hierarchical", "hierarchical-image"}),
    ({"objective.form": "ratio"}, {"hierarchical", "hierarchical-image"}),
    ({"methods.instfeat.dim": 16}, {"instfeat"}),
    ({"methods.segsort.clusters": 3}, {"segsort"}),
    ({"methods.densecl.grid": 2}, {"densecl"}),
    ({"methods.detcon.regions": "tree"}, {"detcon"}),
    ({"methods.hsg.weight": 0.2}, {"hsg"}),
    ({"methods.crw.grid": 2}, {"crw"}),
    ({"clips.frames": 3}, {"colorization", "cycletime", "crw", "flownetc", "mgpff"}),
    ({"pretrain.lr": 0.1}, set(methods.REGISTRY)),
    ({"finetune.lr": 0.1}, set()),
])  # fmt: skip
def test_a_setting_makes_the_checkpoints_stale_of_those_methods_alone_that_read_it(
    dataset, tiny, change, stale
):
    differing = set()
    for name in methods.REGISTRY:
        before, after = (job_of(dataset, settings, None, 0, name) for settings in (tiny(), tiny(change)))
        if before.identity != after.identity:
            differing.add(name)
    assert differing == stale


def test_an_edit_of_moco_makes_no_checkpoints_of_instfeat_stale():
    def modules(name):
        return set(imported_modules(methods.REGISTRY[name].__module__))

    moco = "hgrl.pretraining.methods.moco"
    assert {name for name in methods.REGISTRY if moco in modules(name)} == {"moco", "hierarchical-image"}
    assert "hgrl.pretraining.methods.contrast" in modules("moco") & modules("instfeat") & modules("densecl")
    assert "hgrl.pretraining.methods.contrast" not in modules("hierarchical")


def stub(bad_step, loss_value):
    """A method whose loss is multiplied by `loss_value` at one step; by None: it is finite, and its gradient
    is not."""

    class Stub(Method):
        def __init__(self, settings):
            super().__init__(settings)
            self.register_buffer("steps", torch.tensor(0))

        def loss(self, batch):
            bad = self.steps.item() == bad_step
            self.steps += 1
            weight = self.network.embedding.bias.sum()
            if bad and loss_value is None:
                # the root's slope at 0 is infinite
                return weight + (weight - weight.detach()).square().sqrt(), {}
            return (loss_value * weight if bad else weight), {}

    return Stub


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(
    dataset, settings, tmp_path, monkeypatch, value
):
    monkeypatch.setitem(methods.REGISTRY, "stub", stub(4, loss_value=value))
    path = tmp_path / "seed0.pt"
    good = train(dataset, settings, path, method="stub", stop_after=3)
    with pytest.raises(
        InputError, match=r"at step 4 of 6; the last good checkpoint stays at .*seed0\.pt; lower pretrain\.lr"
    ) as caught:
        train(dataset, settings, path, method="stub")
    assert "\n" not in str(caught.value)
    assert_same(good, load_checkpoint(path))


def test_without_a_checkpoint_the_message_promises_none(dataset, settings, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.REGISTRY, "stub", stub(0, loss_value=math.nan))
    with pytest.raises(InputError, match=r"^loss is nan at step 0 of 6; lower pretrain\.lr"):
        train(dataset, settings, tmp_path / "seed0.pt", method="stub")
    assert not (tmp_path / "seed0.pt").exists()


def test_a_gradient_that_breaks_the_weights_while_the_loss_is_finite_saves_nothing(
    dataset, settings, tmp_path, monkeypatch
):
    monkeypatch.setitem(methods.REGISTRY, "stub", stub(5, loss_value=None))
    path = tmp_path / "seed0.pt"
    good = train(dataset, settings, path, method="stub", stop_after=3)
    with pytest.raises(InputError, match=r"not finite after step 5 of 6; the last good checkpoint stays"):
        train(dataset, settings, path, method="stub")
    assert_same(good, load_checkpoint(path))


def test_the_papers_schedule():
    """Section 4.2: 1e-2, times 0.1 at epochs 25, 45 and 60 of 80."""
    settings = PretrainSettings()
    for steps_per_epoch in (1, 7, 1323):
        total = 80 * steps_per_epoch
        for epoch in range(80):
            power = (epoch >= 25) + (epoch >= 45) + (epoch >= 60)
            for step in (epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch - 1):
                assert learning_rate(settings, step, total) == pytest.approx(1e-2 * 0.1**power)


def test_cosine_and_warm_up():
    cosine = PretrainSettings(schedule="cosine", lr=0.2)
    assert [learning_rate(cosine, step, 100) for step in (0, 50, 100)] == pytest.approx([0.2, 0.1, 0.0])
    rates = [learning_rate(cosine, step, 100) for step in range(100)]
    assert rates == sorted(rates, reverse=True)
    warm = PretrainSettings(warmup_steps=4, lr=0.2)
    assert [learning_rate(warm, step, 100) for step in range(5)] == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2])


def test_the_schedule_reaches_the_optimizer(dataset, tiny, tmp_path):
    settings = tiny(
        {"pretrain.schedule": "step", "pretrain.lr": 1e-3, "pretrain.epochs": 2, "pretrain.milestones": [0.5]}
    )
    first = train(dataset, settings, tmp_path / "seed0.pt", stop_after=2)
    assert first.optimizer["param_groups"][0]["lr"] == pytest.approx(1e-3)
    assert train(dataset, settings, tmp_path / "seed0.pt").optimizer["param_groups"][0][
        "lr"
    ] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "objective", [{"objective.form": "log"}, {"objective.form": "ratio", "objective.temperature": 1.0}]
)
def test_training_lowers_the_loss(dataset, tiny, tmp_path, objective):
    changes = {"pretrain.epochs": 20, "pretrain.lr": 3e-3, "sampling.height_unit": 10.0, **objective}
    losses = train(dataset, tiny(changes), tmp_path / "seed0.pt").losses
    assert len(losses) == 40
    assert losses[-8:].mean() < losses[:8].mean() - 0.05


def test_bf16_trains_with_float32_weights(dataset, tiny, tmp_path):
    trained = train(dataset, tiny({"pretrain.precision": "bf16"}), tmp_path / "seed0.pt", stop_after=2)
    assert torch.isfinite(trained.losses).all()
    assert {value.dtype for name, value in trained.method.items() if "weight" in name} == {torch.float32}


@pytest.mark.parametrize("method", ["hierarchical", "moco", "segsort"])
def test_threads_and_repeats_change_no_bit(dataset, tiny, tmp_path, method):
    """Large enough for torch to share sums among threads; without `one_thread` losses differ from step 2
    on."""
    changes = {"network.width": 16, "augment.crop_size": 64, "pretrain.batch": 8, "pretrain.epochs": 4}
    settings, trained, before = tiny({**changes, "sampling.cns": [20]}), [], torch.get_num_threads()
    try:
        for repeat, threads in enumerate((1, 2, 2, 4)):
            torch.set_num_threads(threads)
            trained.append(train(dataset, settings, tmp_path / f"{repeat}.pt", method=method))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in trained[1:]:
        assert_same(trained[0], other)


# What lies beside the newest checkpoint


def test_when_a_run_is_saved_leaves_no_trace_in_its_folder(dataset, tiny, tmp_path, monkeypatch):
    """Saving after every step or at the end alone, resumed or not: the same files of the same content."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    for kind, minutes, stops in (("rarely", 1e9, ()), ("often", 0.0, (2, 3))):
        settings = tiny({"pretrain.checkpoint_minutes": minutes, "pretrain.snapshots": [0.3, 1.0]})
        for stop in (*stops, None):
            train(dataset, settings, tmp_path / kind / "seed0.pt", stop_after=stop)
    files = sorted(path.name for path in (tmp_path / "rarely").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "often").iterdir()) and {
        "seed0.pt",
        "seed0.at030.pt",
        "seed0.at100.pt",
    } <= set(files)
    for name in files:
        assert_same(load_checkpoint(tmp_path / "rarely" / name), load_checkpoint(tmp_path / "often" / name))


def test_a_snapshot_is_the_run_as_it_was_at_that_step(dataset, tiny, tmp_path):
    settings = tiny({"pretrain.snapshots": [0.5, 0.84]})
    train(dataset, settings, tmp_path / "seed0.pt")
    for share, step in ((0.5, 3), (0.84, 5)):
        train(dataset, settings, tmp_path / f"{step}.pt", stop_after=step)
        assert_same(
            load_checkpoint(snapshot_file(tmp_path / "seed0.pt", share)),
            load_checkpoint(tmp_path / f"{step}.pt"),
        )
    assert not list(tmp_path.glob("seed0.step*"))


def test_a_run_without_a_newest_checkpoint_does_not_take_over_what_lies_beside(dataset, tiny, tmp_path):
    path = tmp_path / "seed0.pt"
    whole = train(dataset, tiny({"pretrain.snapshots": [0.5]}), path)
    path.unlink()
    (tmp_path / ".seed0.pt.killed.part").write_bytes(b"half")
    assert_same(whole, train(dataset, tiny(), path))
    assert [file.name for file in tmp_path.glob("*seed0*")] == ["seed0.pt"]


@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_a_compiled_step_equals_a_plain_one(dataset, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # no pool of processes for so little
    small = {"network.hypercolumn_stages": [1], "pretrain.channels_last": False}
    plain = train(dataset, tiny(small), tmp_path / "plain.pt", stop_after=1)
    compiled = train(
        dataset, tiny({**small, "pretrain.compile": True}), tmp_path / "compiled.pt", stop_after=1
    )
    assert plain.method.keys() == compiled.method.keys() and plain.identity == compiled.identity
    torch.testing.assert_close(plain.losses, compiled.losses, atol=1e-4, rtol=1e-4)
    for key, value in plain.method.items():
        if "running" in key:
            torch.testing.assert_close(compiled.method[key], value, atol=1e-4, rtol=1e-4)
    for key, state in plain.optimizer["state"].items():  # the gradients, a tenth of them
        torch.testing.assert_close(
            compiled.optimizer["state"][key]["exp_avg"], state["exp_avg"], atol=1e-4, rtol=1e-4
        )
