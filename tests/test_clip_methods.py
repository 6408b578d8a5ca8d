"""Losses of the methods that learn from clips, against slow loops and closed forms."""

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import COLOURS
from jobs import job_of, train

from hgrl.data.normalise import grey
from hgrl.pretraining.checkpoints import CheckpointKeeper
from hgrl.pretraining.loop import TrainingLoop
from hgrl.pretraining.methods.colorization import copy_loss, lab_ab, palette
from hgrl.pretraining.methods.crw import cut_patches, transitions, walk_loss
from hgrl.pretraining.methods.cycletime import crop, place_loss, sampling_grid, soft_inliers
from hgrl.sampling.views import Batch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def units(*shape, seed=0):
    return F.normalize(torch.randn(shape, generator=generator(seed), dtype=torch.float64), dim=-1)


@pytest.fixture
def first_batch(dataset, tiny, monkeypatch):
    """A function: the loop of a method, and the first batch that it is given."""

    def begin(method, changes=None):
        loop = TrainingLoop(job_of(dataset, tiny(changes), None, method=method), torch.device("cpu"))
        return loop, next(loop.batches())

    monkeypatch.setattr(CheckpointKeeper, "newest", lambda self: None)
    return begin


@pytest.mark.parametrize("method", ["colorization", "cycletime", "crw"])
def test_training_lowers_the_loss(dataset, tiny, tmp_path, method):
    changes = {
        "pretrain.epochs": 30,
        "pretrain.lr": 3e-3,
        "methods.crw.temperature": 0.2,
        "methods.colorization.colours": 3,
    }
    losses = train(dataset, tiny(changes), tmp_path / "seed0.pt", method=method).losses
    assert len(losses) == 60 and losses[-12:].mean() < losses[:12].mean() - 0.02


@pytest.mark.parametrize("method", ["colorization", "cycletime", "crw"])
def test_frames_are_read_as_tracking_reads_them(first_batch, method):
    loop, batch = first_batch(method)
    assert batch["images"].shape == (4, 4, 3, 32, 32)
    own = loop.state.method
    assert own.fine_features(torch.rand(2, 3, 32, 32)).shape == (2, 32, 4, 4)
    assert own.layers == ("backbone",) and own.network.backbone(torch.rand(2, 3, 32, 32))[-1].shape[-1] == 2


# CRW


def slow_walks(nodes, temperature):
    """-log of the chance to come home, by the sum over all walks there and back."""
    frames, batch, count, _ = nodes.shape
    losses = []
    for k in range(2, frames) if frames > 2 else [1]:
        route = [*range(k + 1), *reversed(range(k))]
        for b, start in itertools.product(range(batch), range(count)):
            home = 0.0
            for middle in itertools.product(range(count), repeat=len(route) - 2):
                chance, walk = 1.0, [start, *middle, start]
                for (t, u), (i, j) in zip(itertools.pairwise(route), itertools.pairwise(walk), strict=True):
                    weights = (nodes[u, b] @ nodes[t, b, i] / temperature).exp()
                    chance *= float(weights[j] / weights.sum())
                home += chance
            losses.append(-math.log(home))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("frames, temperature", [(2, 0.07), (3, 0.07), (3, 1.0)])
def test_walks_come_home_as_often_as_the_sum_over_all_walks_says(frames, temperature):
    nodes = units(frames, 2, 3, 4)
    assert walk_loss(nodes, temperature, 0.0, generator())[0].item() == pytest.approx(
        slow_walks(nodes, temperature)
    )


def test_walks_among_unlike_nodes_come_home_and_among_like_ones_by_chance():
    same = torch.eye(6, dtype=torch.float64).expand(4, 2, 6, 6)
    loss, about = walk_loss(same, 0.05, 0.0, generator())
    assert loss < 1e-6 and about["walks_home"] == 1
    assert walk_loss(torch.ones_like(same) / 6**0.5, 0.05, 0.0, generator())[0].item() == pytest.approx(
        math.log(6)
    )


def test_dropped_edges_are_not_walked_and_the_rest_share_their_weight():
    cosines = units(3, 2, 40, 40).float()
    steps = transitions(cosines, 0.5, 0.3, generator())
    dropped = steps == 0
    assert 0.25 < dropped.float().mean() < 0.35
    torch.testing.assert_close(steps.sum(-1), torch.ones(3, 2, 40))
    weights = (cosines / 0.5).exp().masked_fill(dropped, 0)
    torch.testing.assert_close(steps, weights / weights.sum(-1, keepdim=True))
    assert not torch.equal(dropped, transitions(cosines, 0.5, 0.3, generator(1)) == 0)
    every = transitions(cosines, 0.5, 1.0, generator())
    assert (
        walk_loss(units(3, 1, 4, 4).float(), 0.07, 1.0, generator())[0].isfinite() and every.isfinite().all()
    )


def test_patches_are_cut_from_edge_to_edge():
    frames = torch.rand(2, 3, 10, 14)
    patches = cut_patches(frames, 3, 4)
    assert patches.shape == (2, 9, 3, 4, 4)
    for row, top in enumerate((0, 3, 6)):
        for column, left in enumerate((0, 5, 10)):
            assert torch.equal(patches[:, 3 * row + column], frames[..., top : top + 4, left : left + 4])


# Video Colorization


def slow_copy(cells, colours, count, temperature):
    losses = []
    for b, j in itertools.product(range(cells.shape[1]), range(cells.shape[2])):
        weight = {
            t: [math.exp(float(cells[-1, b, j] @ other) / temperature) for other in cells[t, b]]
            for t in (0, 1)
        }
        total = sum(map(sum, weight.values()))
        copied = [0.0] * count
        for t, row in weight.items():
            for i, value in enumerate(row):
                copied[colours[t, b, i]] += value / total
        losses.append(-math.log(copied[colours[-1, b, j]] + 1e-8))
    return sum(losses) / len(losses)


def test_a_colour_is_copied_from_all_cells_of_the_frames_before():
    cells, colours = units(3, 2, 5, 4), torch.randint(4, (3, 2, 5), generator=generator())
    for temperature in (0.1, 1.0):
        loss, _ = copy_loss(cells, colours, 4, temperature)
        assert loss.item() == pytest.approx(slow_copy(cells, colours, 4, temperature))


def test_cells_that_find_themselves_have_no_loss_and_cells_alike_have_the_colours_share():
    cells, colours = torch.eye(4).expand(3, 1, 4, 4), torch.tensor([0, 1, 1, 1]).expand(3, 1, 4)
    loss, about = copy_loss(cells, colours, 3, 0.02)
    assert loss < 1e-6 and about["right_colours"] == 1
    loss, _ = copy_loss(torch.ones(3, 1, 4, 1), colours, 3, 0.02)
    assert loss.item() == pytest.approx(-(math.log(0.25) + 3 * math.log(0.75)) / 4, rel=1e-5)


def test_lab_is_opencvs():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    image[0, 0], image[0, 1] = 0, 255
    expected = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[..., 1:]
    found = lab_ab(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.6)
    assert found[0, :2].abs().max() < 0.05


def test_the_palette_has_the_colours_that_are_there():
    centres = torch.tensor([[-40.0, 0.0], [0.0, 0.0], [30.0, 50.0]])
    points = centres.repeat_interleave(50, 0) + torch.randn(150, 2, generator=generator())
    found = palette(points, 3)
    assert torch.cdist(centres, found).min(1).values.max() < 1 and torch.equal(found, palette(points, 3))


def test_the_network_is_shown_grey_and_keeps_its_palette(first_batch, monkeypatch):
    loop, batch = first_batch("colorization")
    method, seen = loop.state.method, []
    monkeypatch.setattr(
        method, "fine_features", lambda images: seen.append(images) or torch.rand(16, 8, 4, 4)
    )
    method.loss(Batch(**batch, progress=0.0, generator=generator()))
    shown = grey(batch["images"].flatten(0, 1)) / 255
    colour = (seen[0] * torch.tensor([0.229, 0.224, 0.225])[:, None, None]).sub(
        -torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    )
    torch.testing.assert_close(colour, shown, atol=1e-5, rtol=0)
    assert method.grey_input


def test_the_palette_is_of_all_images_and_stays(dataset, settings, tmp_path):
    kept = [train(dataset, settings, tmp_path / "a.pt", method="colorization", stop_after=k) for k in (1, 4)]
    first, later = (saved.method["palette"] for saved in kept)
    assert torch.equal(first, later) and len(torch.unique(first, dim=0)) == 16
    red_green_blue = lab_ab(torch.from_numpy(COLOURS).T[None, :, :, None])[0, :, :, 0].T
    assert (torch.cdist(red_green_blue, first).min(1).values < 25).all()


# CycleTime


def places(count=6, seed=0):
    drawn = 2 * torch.rand(count, 3, generator=generator(seed), dtype=torch.float64) - 1
    return drawn * torch.tensor([0.6, 0.6, 0.8])


def test_the_loss_of_a_place_is_that_of_the_points_of_the_authors_grid():
    one, other, share = places(), places(seed=1), 1 / 3
    axis, total = np.linspace(-1, 1, 20), 0.0
    for (x, y, angle), (x2, y2, angle2) in zip(one.tolist(), other.tolist(), strict=True):
        for u, v in itertools.product(axis, axis):
            to = [
                (
                    share * (u * math.cos(a) - v * math.sin(a)) + c,
                    share * (u * math.sin(a) + v * math.cos(a)) + d,
                )
                for a, c, d in ((angle, x, y), (angle2, x2, y2))
            ]
            total += (to[0][0] - to[1][0]) ** 2 + (to[0][1] - to[1][1]) ** 2
    assert place_loss(one, other, share).item() == pytest.approx(total / 400 / len(one))
    assert place_loss(one, one, share) == 0


def test_a_patch_is_cut_where_its_place_says():
    frames = torch.rand(1, 2, 12, 12, generator=generator())
    middle = torch.tensor([[-4 / 12, 2 / 12, 0.0]])  # 4 x 4 cells, 2 to 5 and 5 to 8
    torch.testing.assert_close(crop(frames, middle, 4 / 12, 4), frames[:, :, 5:9, 2:6])
    turned = torch.tensor([[-4 / 12, 2 / 12, math.pi / 2]])
    torch.testing.assert_close(crop(frames, turned, 4 / 12, 4), frames[:, :, 5:9, 2:6].rot90(1, (2, 3)))


def test_soft_inliers_are_the_affinities_at_the_place_interpolated():
    grid, side, share = 6, 2, 1 / 3
    affinity = torch.rand(3, grid**2, side, side, generator=generator(), dtype=torch.float64).softmax(1)
    where = places(3, seed=2)
    where[0, 0] = 0.9  # half outside
    points, expected = sampling_grid(where, share, side), []
    for b in range(3):
        found = weight = 0.0
        for i, j in itertools.product(range(side), range(side)):
            x, y = ((float(c) + 1) * grid / 2 - 0.5 for c in points[b, i, j])
            for row, column in itertools.product(range(grid), range(grid)):
                share_of = max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
                found += share_of * float(affinity[b, row * grid + column, i, j])
                weight += share_of
        expected.append(found / weight)
    assert soft_inliers(affinity, where, share, grid).tolist() == pytest.approx(expected)


def test_affinities_are_of_the_patchs_cells_with_all_cells_of_the_frame(first_batch):
    method = first_batch("cycletime")[0].state.method
    frame, patch = torch.rand(2, 8, 4, 4), torch.rand(2, 8, method.patch, method.patch)
    frame[1, :, 2, 3] = 3 * patch[1, :, 1, 0]
    place, affinity = method.locate(patch, frame)
    assert place.shape == (2, 3) and affinity.shape == (2, 16, method.patch, method.patch)
    torch.testing.assert_close(affinity.sum(1), torch.ones(2, method.patch, method.patch))
    assert affinity[1, :, 1, 0].argmax() == 2 * 4 + 3
    assert place.abs().max() < 0.2, "an untrained regressor says the middle"
    drawn = method.draw_places(200, generator())
    assert (drawn[:, :2].abs() <= 1 - method.share).all() and drawn[:, 2].abs().max() <= math.pi / 4


def test_a_cycle_goes_there_and_back_through_every_frame(first_batch, monkeypatch):
    """The frames in which a patch is sought, in their order, with the frames told apart by their number."""
    loop, batch = first_batch("cycletime")
    method, sought = loop.state.method, []
    numbers = torch.arange(4.0)[:, None, None, None, None].expand(4, 4, 8, 4, 4)
    monkeypatch.setattr(method, "frame_features", lambda batch: numbers)
    monkeypatch.setattr(method, "fine_features", lambda images: torch.rand(4, 8, method.patch, method.patch))
    found = torch.zeros(4, 3), torch.full((4, 16, method.patch, method.patch), 1 / 16)
    monkeypatch.setattr(method, "locate", lambda patch, frame: sought.append(int(frame[0, 0, 0, 0])) or found)
    method.loss(Batch(**batch, progress=0.0, generator=generator()))
    skip = [[2, 3], [1, 3], [0, 3]]
    cycles = [[2, 3], [1, 2, 3], [0, 1, 2, 3]]  # the way back to each frame is shared by the longer cycles
    assert sought == [t for pair in zip(skip, cycles, strict=True) for part in pair for t in part]
