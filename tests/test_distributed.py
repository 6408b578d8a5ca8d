"""Two processes train what one does: the same losses, gradients and checkpoints, to rounding."""

import itertools

import pytest
import torch
from ranks import in_ranks, step
from torch import nn

from hgrl.core.checkpoint import load_checkpoint
from hgrl.core.errors import InputError
from hgrl.pretraining import ranks
from hgrl.pretraining.methods import REGISTRY, build_method
from hgrl.pretraining.ranks import part_of_batch, training_device
from hgrl.pretraining.synced_norm import SyncedBatchNorm2d, sync_batch_norm
from hgrl.sampling.order import BatchPart, EpochOrder
from hgrl.sampling.pixels import sample_pixels

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
# of the key encoder: each rank's own groups'; nothing reads them
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


def comparable(state):
    return {
        key: value
        for key, value in state.items()
        if not (key.startswith("key_encoder.") and key.endswith(RUNNING))
    }


def assert_close(one, other, **tolerance):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(
            one[key], other[key], **(tolerance or CLOSE), msg=lambda text, key=key: f"{key}: {text}"
        )


def rounding(largest):
    """Of gradients up to `largest`; in one process those of FlowNetC differ from double
    precision's by 4e-5 of that."""
    return {"atol": max(1e-5, 2e-5 * largest), "rtol": 1e-5}


def test_two_processes_have_the_loss_and_the_gradients_of_one_for_every_method(tiny, dataset, tmp_path):
    """Batches of four: each rank has two images, and most of the five negatives from other images lie on the
    other rank."""
    soft = {f"methods.{name}.temperature": 1.0 for name in ("crw", "colorization")}  # .07 magnifies rounding
    settings = {name: tiny({"sampling.cns": [5], **soft}) for name in REGISTRY}
    settings["without cns"] = tiny({"sampling.cns": [0]})
    settings["two terms"] = tiny({"sampling.cns": [2, 5], "sampling.cns_reading": "terms"})
    settings["ratio"] = tiny({"objective.form": "ratio", "objective.temperature": 1.0})
    methods = {name: name if name in REGISTRY else "hierarchical" for name in settings}
    settings["all segments"], methods["all segments"] = tiny({"methods.segsort.scope": "batch"}), "segsort"
    settings["all leaves"], methods["all leaves"] = tiny({"methods.hsg.scope": "batch"}), "hsg"
    settings["tree"], methods["tree"] = tiny({"methods.detcon.regions": "tree"}), "detcon"
    tasks = {
        name: ("step", methods[name], settings[name], dataset, tmp_path / f"{name}-two.pt", 1)
        for name in settings
    }
    first, second = in_ranks(tmp_path / "ranks", tasks)
    for name in settings:
        one = step(methods[name], settings[name], dataset, tmp_path / f"{name}.pt", 1)
        largest = max(
            value.abs().max().item() for value in one["gradients"].values()
        )  # sums round by their size
        for found in (first[name], second[name]):
            assert found["losses"] == pytest.approx(one["losses"], abs=1e-5), name
            assert_close(found["gradients"], one["gradients"], **rounding(largest))
        assert_close(comparable(first[name]["state"]), comparable(second[name]["state"]), atol=0, rtol=0)
        assert largest > 1e-3, name
        alone, together = (load_checkpoint(tmp_path / f"{name}{kind}.pt") for kind in ("", "-two"))
        assert alone.method.keys() == together.method.keys() and alone.identity == together.identity


@pytest.mark.parametrize("method", ["hierarchical", "moco"])
def test_a_checkpoint_of_two_processes_goes_on_in_one_and_the_reverse(method, tiny, dataset, tmp_path):
    """Three steps in two processes, then one process to the end; and the reverse. The learning rate is low:
    Adam magnifies rounding."""
    settings = tiny({"pretrain.lr": 1e-5})
    whole = step(method, settings, dataset, tmp_path / "whole.pt", 6)
    step(method, settings, dataset, tmp_path / "one.pt", 3)
    parts = {"two": ("two.pt", 3), "goes on": ("one.pt", 6)}
    tasks = {
        name: ("step", method, settings, dataset, tmp_path / file, last)
        for name, (file, last) in parts.items()
    }
    (found, other) = in_ranks(tmp_path / "ranks", tasks)
    back = step(method, settings, dataset, tmp_path / "two.pt", 6)
    assert found["two"]["losses"] == other["two"]["losses"] == back["losses"][:3]
    for resumed in (found["goes on"], back):
        assert len(resumed["losses"]) == 6
        torch.testing.assert_close(torch.tensor(resumed["losses"]), torch.tensor(whole["losses"]), **CLOSE)
        assert_close(comparable(resumed["state"]), comparable(whole["state"]), **CLOSE)


def test_what_ranks_exchange_and_what_they_refuse(tiny, dataset, tmp_path):
    odd, few, one_card = (
        tiny({"pretrain.batch": 5}),
        tiny({"methods.moco.groups": 1}),
        tiny({"device": "cuda:1"}),
    )
    nan = tiny({"pretrain.lr": 1e30, "pretrain.epochs": 20})
    tasks = {
        "collectives": ("collectives",),
        "odd": ("error", "hierarchical", odd, dataset, tmp_path / "odd.pt", 1),
        "few": ("error", "moco", few, dataset, tmp_path / "few.pt", 1),
        "card": ("error", "moco", one_card, dataset, tmp_path / "card.pt", 1),
        "nan": ("error", "hierarchical", nan, dataset, tmp_path / "nan.pt", 40),
        "stopped": ("stopped", "hierarchical", tiny(), dataset, tmp_path / "stopped.pt"),
        **{
            name: ("step_that_never_waits", name, tiny(), dataset, tmp_path / f"{name}.pt")
            for name in REGISTRY
        },
    }
    first, second = in_ranks(tmp_path / "ranks", tasks)
    own = [torch.arange(6.0).view(3, 2) + 10 * rank for rank in range(2)]
    for found in (first["collectives"], second["collectives"]):
        assert torch.equal(found["gathered"], torch.cat(own))
        assert torch.equal(
            found["found"],
            torch.stack([torch.stack([own[0][2], own[1][0]]), torch.stack([own[1][1], own[1][1]])]),
        )
        assert found["any"] and not found["none"] and found["first"] == "rank 0"
    # Ranks weigh what they fetched by 1 and 2: a row fetched k times has gradient 3 k, on the rank that owns
    # it.
    assert first["collectives"]["gradient"].tolist() == [[0, 0], [0, 0], [3, 3]]
    assert second["collectives"]["gradient"].tolist() == [[3, 3], [6, 6], [0, 0]]
    assert (first["collectives"]["told"], second["collectives"]["told"]) == (
        ("InputError", "the disk is full"),
        ("ToldByFirst", "the disk is full"),
    )
    assert first["odd"] == (
        "InputError",
        "setting 'pretrain.batch': 5 images do not divide among 2 processes; take 4 or 6",
    )
    assert second["odd"] == ("ToldByFirst", first["odd"][1])
    assert "1 groups of images for 2 processes" in first["few"][1]
    assert "'cuda:1' is one device, and several processes train" in first["card"][1] == second["card"][1]
    assert "lower pretrain.lr" in first["nan"][1] and second["nan"] == ("ToldByFirst", first["nan"][1])
    assert not (tmp_path / "odd.pt").exists()
    assert (
        first["stopped"] == second["stopped"]
        and first["stopped"][1] == 2 == load_checkpoint(tmp_path / "stopped.pt").step
    )


def test_a_global_batch_that_is_the_whole_small_split_is_said_to_be(monkeypatch):
    monkeypatch.setattr(ranks, "batch_part", lambda: BatchPart(0, 4))
    with pytest.raises(
        InputError, match="70 images, of which the split has 6, do not divide among 4 processes; take 4"
    ):
        part_of_batch(6, 70)
    with pytest.raises(InputError, match="start fewer processes"):
        part_of_batch(3, 70)
    assert part_of_batch(100, 72) == BatchPart(0, 4)


def test_synchronised_statistics_are_those_of_the_whole_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    images = 3 + 2 * torch.randn(6, 5, 4, 3, generator=generator)
    weights = torch.randn(6, 5, 4, 3, generator=generator)
    torch.manual_seed(0)
    norm, whole = nn.BatchNorm2d(5), images.clone().requires_grad_()
    nn.init.uniform_(norm.weight), nn.init.uniform_(norm.bias)
    output = norm(whole)
    (output * weights).sum().backward()
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    parts = in_ranks(
        tmp_path / "ranks", {name: ("normalised", images, weights, dtype) for name, dtype in kinds.items()}
    )
    for name, tolerance in (("fp32", CLOSE), ("bf16", {"atol": 0.05, "rtol": 0.05})):
        one, two = parts[0][name], parts[1][name]
        assert one["output"].dtype == one["images"].dtype == kinds[name]
        torch.testing.assert_close(
            torch.cat([one["output"], two["output"]]).float(), output.detach(), **tolerance
        )
        torch.testing.assert_close(torch.cat([one["images"], two["images"]]).float(), whole.grad, **tolerance)
        torch.testing.assert_close(one["weight"] + two["weight"], norm.weight.grad, **tolerance)
        torch.testing.assert_close(one["bias"] + two["bias"], norm.bias.grad, **tolerance)
        assert_close(one["state"], norm.state_dict(), **tolerance)
        assert_close(one["state"], two["state"], atol=0, rtol=0)


def test_layers_that_learn_are_synchronised_in_place_and_copies_without_gradient_are_not(settings):
    method = build_method("moco", settings)
    before, parameters = (
        {key: value.clone() for key, value in method.state_dict().items()},
        list(method.parameters()),
    )
    sync_batch_norm(method)
    norms = {
        name: type(module) for name, module in method.named_modules() if isinstance(module, nn.BatchNorm2d)
    }
    assert {kind for name, kind in norms.items() if name.startswith("key_encoder.")} == {nn.BatchNorm2d}
    assert {kind for name, kind in norms.items() if not name.startswith("key_encoder.")} == {
        SyncedBatchNorm2d
    }
    assert all(one is other for one, other in zip(parameters, method.parameters(), strict=True))
    assert_close(method.state_dict(), before, atol=0, rtol=0)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_parts_of_a_batch_are_the_batch_in_its_order(world):
    whole = list(EpochOrder(19, 8, 2, seed=3))
    parts = [list(EpochOrder(19, 8, 2, seed=3, part=BatchPart(rank, world))) for rank in range(world)]
    assert [[*itertools.chain(*step)] for step in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_draw_together_what_one_process_draws(world, settings):
    """Same anchors, positives and negatives, cell by cell: indices of a rank's cells are put back into the
    global batch's."""
    generator = torch.Generator().manual_seed(5)
    images, cells = 6, 12
    labels = torch.randint(4, (2, images, 3, 4), generator=generator, dtype=torch.uint8)
    distances = torch.rand(images, 4, 4, generator=generator)
    whole = sample_pixels(labels, distances, settings.sampling, 3, torch.Generator().manual_seed(0))
    count = images // world
    for rank in range(world):
        part, rows = BatchPart(rank, world), slice(rank * count, (rank + 1) * count)
        own = sample_pixels(
            labels[:, rows], distances[rows], settings.sampling, 3, torch.Generator().manual_seed(0), part
        )

        def globally(index, owner=rank):
            image, cell = index // cells, index % cells
            # view, image, cell
            return (image // count * images + owner * count + image % count) * cells + cell

        assert torch.equal(globally(own.anchors), whole.anchors[rows])
        assert torch.equal(globally(own.positives), whole.positives[rows])
        assert torch.equal(globally(own.negatives[..., :-3]), whole.negatives[rows][..., :-3])
        assert torch.equal(globally(own.elsewhere, own.owners), whole.negatives[..., -3:])
        for name in ("anchors_valid", "positives_valid", "negatives_valid"):
            assert torch.equal(getattr(own, name), getattr(whole, name)[rows])


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with ranks.processes(torch.device("cpu")):
        assert (
            not torch.distributed.is_initialized()
            and ranks.batch_part() == BatchPart(0, 1)
            and ranks.is_first()
        )
    assert training_device("cpu") == torch.device("cpu")


def test_every_process_of_torchrun_has_its_own_card(monkeypatch):
    for key, value in (("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training_device("auto") == training_device("cuda") == torch.device("cuda", 1)
    assert training_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="process 2 of this machine has no card, there are 2"):
        training_device("auto")
