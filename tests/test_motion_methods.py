"""FlowNetC-small and mgPFF: their layers against loops, and flows of known motions after a short training."""

import cv2
import numpy as np
import pytest
import torch
from jobs import train
from motions import affine, end_point_error, moved, textured

from hgrl.core.checkpoint import load_checkpoint
from hgrl.pretraining.methods import build_method
from hgrl.pretraining.methods.flownetc import FlowNetC
from hgrl.pretraining.methods.matching import correlation, pairs_of, warped
from hgrl.pretraining.methods.mgpff import FilterFlow, charbonnier, expected_displacement, filtered, roughness
from hgrl.sampling.views import Batch


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [5, 16, 19])
def test_the_correlation_is_that_of_a_loop(width):
    first, second, reach = random(2, 3, 4, width), random(2, 3, 4, width, seed=1), 2
    found = correlation(first, second, reach)
    assert found.shape == (2, 25, 4, width)
    for y, x, i, j in np.ndindex(4, width, 5, 5):
        row, column = y + i - reach, x + j - reach
        slow = torch.zeros(2)
        if 0 <= row < 4 and 0 <= column < width:
            slow = (first[:, :, y, x] * second[:, :, row, column]).mean(1)
        assert torch.allclose(found[:, 5 * i + j, y, x], slow, atol=1e-5)


def test_warping_is_opencvs():
    layers, flow = random(1, 2, 9, 7), 3 * random(1, 2, 9, 7, seed=1)
    places = flow[0].permute(1, 2, 0).numpy() + np.stack(np.meshgrid(np.arange(7), np.arange(9)), -1)
    how = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REPLICATE}
    slow = [cv2.remap(layer, places.astype(np.float32), None, **how) for layer in layers[0].numpy()]
    assert np.abs(warped(layers, flow)[0].numpy() - slow).max() < 0.1  # OpenCV has 1/32 pixels
    assert torch.allclose(warped(layers, torch.zeros_like(flow)), layers, atol=1e-5)


@pytest.mark.parametrize("spread", [1, 2])
def test_filters_are_applied_as_in_a_loop(spread):
    layers, filters = random(2, 3, 4, 6), torch.softmax(random(2, 121, 4, 6, seed=1), 1)
    found = filtered(layers, filters, spread)
    for b, y, x in np.ndindex(2, 4, 6):
        slow = torch.zeros(3)
        for i, j in np.ndindex(11, 11):
            row, column = y + spread * (i - 5), x + spread * (j - 5)
            at = layers[b, :, min(max(row, 0), 3), min(max(column, 0), 5)]
            slow += filters[b, 11 * i + j, y, x] * at
        assert torch.allclose(found[b, :, y, x], slow, atol=1e-5)


def one_place(height, width, dx, dy):
    filters = torch.zeros(1, 121, height, width)
    filters[:, 11 * (dy + 5) + dx + 5] = 1
    return filters


def test_a_filter_of_one_place_moves_layers_and_is_a_flow():
    layers, filters = random(1, 2, 12, 14), one_place(12, 14, 3, -2)
    assert torch.equal(filtered(layers, filters)[..., 2:, :-3], layers[..., :-2, 3:])
    assert expected_displacement(filters)[0, :, 4, 4].tolist() == [3, -2]


def test_a_coarse_grids_filters_move_finer_layers_after_its_flow():
    step = FilterFlow(
        torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 8, 9), one_place(8, 9, 0, 2), 2
    )
    assert step.total[0, :, 2, 2].tolist() == [1, 2]
    layers = random(1, 1, 16, 18)
    assert torch.allclose(step(layers)[..., :-4, :-2], layers[..., 4:, 2:], atol=1e-5)


def test_charbonnier_and_roughness_in_closed_form():
    assert charbonnier(torch.tensor([3.0, -4.0])).item() == pytest.approx(3.5, abs=1e-5)
    assert charbonnier(torch.zeros(2)).item() == pytest.approx(1e-3)
    ramp = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="xy"))[None]
    assert roughness(ramp).item() == pytest.approx(24 / 32) and roughness(torch.ones(1, 2, 1, 1)) == 0


def known_motions(side, seed=0):
    """Shifts and affine motions of one textured image: [(image, reference, flow, inside)]."""
    rng, reference = np.random.default_rng(seed), textured(side, side)
    motions = [affine(shift=rng.uniform(-4, 4, 2)) for _ in range(3)]
    motions += [affine(3 * rng.normal(), 1 + 0.03 * rng.normal(), rng.uniform(-3, 3, 2)) for _ in range(3)]
    found = [moved(reference, motion) for motion in motions]
    return [(image, reference, flow, inside) for image, flow, inside in found]


@pytest.mark.parametrize(
    ("name", "own", "side", "steps", "lr"),
    [
        ("flownetc", {"width": 8, "reach": 4}, 48, 120, 3e-3),
        ("mgpff", {"width": 8, "scales": [4, 2, 1]}, 40, 20, 1e-2),
    ],
)
def test_a_short_training_finds_shifts_and_affine_motions(tiny, name, own, side, steps, lr):
    """Mean end-point error below half a pixel on what it was trained on; mgPFF is never told the flow."""
    torch.manual_seed(0)
    pairs, model = known_motions(side), build_method(name, tiny({f"methods.{name}": own}))
    clips = torch.stack([torch.from_numpy(np.stack(pair[:2])).permute(0, 3, 1, 2) for pair in pairs])
    flow = torch.stack([torch.from_numpy(pair[2]).permute(2, 0, 1)[None] for pair in pairs])
    batch = Batch(clips.transpose(0, 1), torch.zeros(1), torch.zeros(1), 0.0, torch.Generator(), flow=flow)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def errors():
        model.eval()
        found = [(model.flow(image, reference), flow, inside) for image, reference, flow, inside in pairs]
        model.train()
        return [end_point_error(*of) for of in found]

    before = errors()
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(batch)[0].backward()
        optimizer.step()
        decay.step()
    after = errors()
    assert np.mean(before) > 1.5 and np.mean(after) < 0.5, (before, after)
    assert max(after) < 1


def test_pairs_are_successors():
    clips = torch.arange(2 * 3).view(2, 3, 1, 1, 1)
    assert [frames.flatten().tolist() for frames in pairs_of(clips)] == [[0, 1, 3, 4], [1, 2, 4, 5]]


@pytest.mark.parametrize("name", ["flownetc", "mgpff"])
def test_the_loop_trains_them_and_their_checkpoints_have_no_network(dataset, tiny, tmp_path, name):
    path = tmp_path / "seed0.pt"
    losses = train(dataset, tiny({"pretrain.epochs": 20, "pretrain.lr": 3e-3}), path, method=name).losses
    assert losses[-8:].mean() < losses[:8].mean()
    assert not any(key.startswith("network.") for key in load_checkpoint(path).method)


def test_flownetc_learns_from_stills_whose_flow_is_known_where_there_are_videos(dataset, tiny):
    settings = tiny({"data.clips": {"kind": "davis", "folder": "DAVIS", "split": "train"}})
    assert "flow" in FlowNetC.training_set(dataset[0], settings, 0)[0, 0]


@pytest.mark.parametrize("size", [(32, 32), (45, 70), (17, 33)])
@pytest.mark.parametrize("name", ["flownetc", "mgpff"])
def test_flows_have_their_frames_size(tiny, name, size):
    model = build_method(name, tiny()).eval()
    image, other = textured(*size), textured(*size, seed=1)
    flow = model.flow(image, other)
    assert flow.shape == (*size, 2) and flow.dtype == np.float32 and np.isfinite(flow).all()
    if name == "mgpff":
        layers = np.random.default_rng(0).random((4, *size), np.float32)
        carried = model.warp(image, other, layers)
        assert carried.shape == layers.shape and carried.min() >= 0 and carried.max() <= 1.0001
