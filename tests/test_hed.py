"""The edge network: its outputs, its loss, its training, its files, and that nothing else needs torch for
grouping.
"""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from toy_bsds import write_discs

from hgrl.core.checkpoint import load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings, HedSettings
from hgrl.data.sets.bsds import open_bsds
from hgrl.grouping import edge_training
from hgrl.grouping.edge_network import detect, load_network
from hgrl.grouping.edge_training import EDGE, IGNORED, NONE, EdgeTraining, balanced_loss, consensus, deep_loss
from hgrl.grouping.edges import EdgeNetwork, detect_edges
from hgrl.grouping.hed import training as hed_training
from hgrl.grouping.hed.network import HED
from hgrl.grouping.hed.training import (
    draw_batch,
    initial_network,
    learning_rate,
    random_crop,
    read_pictures,
    shrunk,
    train_hed,
    trunk_origin,
)

TINY = HedSettings(width=4, shrink=(1,), crop_size=32, iterations=30, batch=2, lr=1e-2)
CPU = torch.device("cpu")


def load_hed(path):
    return load_network(path, "hed")


def look(image, model):
    return detect([image], model)[0]


def network(width=2, batch_norm=True, seed=0):
    torch.manual_seed(seed)
    return HED(width, batch_norm).eval()


@pytest.fixture(scope="module")
def contours(tmp_path_factory):
    root = tmp_path_factory.mktemp("contours")
    write_discs(root / "BSDS500")
    return [open_bsds(root, "BSDS500", "train")]


# The network


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 31), (97, 50)])
def test_five_side_outputs_and_their_fusion_are_of_the_images_size(size, batch_norm):
    answers = network(batch_norm=batch_norm)(torch.randn(2, 3, *size))
    assert [tuple(answer.shape) for answer in answers] == [(2, 1, *size)] * 6


def test_side_outputs_stand_after_the_last_convolution_of_each_stage():
    """conv1_2, 2_2, 3_3, 4_3 and 5_3, at strides 1, 2, 4, 8, 16, read by hooks on the side convolutions."""
    model, seen = network(width=2), []
    for side in model.sides:
        side.register_forward_hook(lambda layer, inputs, output: seen.append(tuple(inputs[0].shape[1:])))
    model(torch.randn(1, 3, 64, 96))
    assert seen == [(2, 64, 96), (4, 32, 48), (8, 16, 24), (16, 8, 12), (16, 4, 6)]
    convolutions = [index for index, layer in enumerate(model.features) if isinstance(layer, torch.nn.Conv2d)]
    assert [sum(index <= end for index in convolutions) for end in model.ends] == [2, 4, 7, 10, 13]


@pytest.mark.parametrize(("name", "batch_norm"), [("vgg16", False), ("vgg16_bn", True)])
def test_the_trunk_of_width_64_is_torchvisions_layer_by_layer(name, batch_norm):
    with torch.device("meta"):
        theirs, ours = (
            getattr(torchvision.models, name)().features.state_dict(),
            HED(64, batch_norm).features.state_dict(),
        )
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


def test_the_fusion_begins_as_the_mean_of_the_sides():
    answers = network()(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(answers[-1], torch.stack(answers[:-1]).mean(dim=0))


# The loss


def slow_loss(logits, target):
    """HED's equation 2, pixel by pixel, divided by the number of counted pixels; the mean over images."""
    total = 0.0
    for image, labels in zip(logits[:, 0].double().tolist(), target.tolist(), strict=True):
        pixels = [
            (x, t)
            for row, marks in zip(image, labels, strict=True)
            for x, t in zip(row, marks, strict=True)
            if t != IGNORED
        ]
        beta = sum(t == NONE for _, t in pixels) / len(pixels)
        for x, t in pixels:
            p = 1 / (1 + np.exp(-x))
            total -= (beta * np.log(p) if t == EDGE else (1 - beta) * np.log(1 - p)) / len(pixels)
    return total / len(logits)


@given(st.integers(0, 2**31 - 1), st.floats(0.05, 0.6))
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_loss_is_the_slow_loops(seed, share):
    random = np.random.default_rng(seed)
    target = random.choice([EDGE, NONE, IGNORED], p=[share, 0.9 - share, 0.1], size=(3, 5, 7)).astype(
        np.uint8
    )
    target[:, 0, 0] = NONE  # at least one pixel counts
    logits = torch.from_numpy(random.normal(size=(3, 1, 5, 7)) * 3)
    assert balanced_loss(logits, torch.from_numpy(target)).item() == pytest.approx(
        slow_loss(logits, target), rel=1e-5
    )


def test_the_loss_worked_by_hand():
    """One edge among four counted pixels: beta = 3/4. At logit 0 every log is log 2: (3/4 + 3 * 1/4) log 2 /
    4.
    """
    target = torch.tensor([[[EDGE, NONE, NONE, NONE, IGNORED]]], dtype=torch.uint8)
    assert balanced_loss(torch.zeros(1, 1, 1, 5), target).item() == pytest.approx(1.5 * np.log(2) / 4)


def test_edges_and_the_rest_weigh_the_same_in_sum_and_ignored_pixels_have_no_gradient():
    target = torch.tensor([[[EDGE, NONE, NONE, NONE, NONE, IGNORED]]], dtype=torch.uint8)
    logits = torch.zeros(1, 1, 1, 6, requires_grad=True)
    balanced_loss(logits, target).backward()
    gradient = logits.grad[0, 0, 0]
    assert (
        gradient[0].item() == pytest.approx(-gradient[1:5].sum().item())
        and gradient[0] < 0
        and gradient[5] == 0
    )


@pytest.mark.parametrize("only", [NONE, IGNORED])
def test_an_image_without_an_edge_adds_nothing(only):
    target = torch.full((1, 4, 4), only, dtype=torch.uint8)
    assert balanced_loss(torch.randn(1, 1, 4, 4), target).item() == 0


def test_deep_supervision_sums_over_all_outputs():
    target = (torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.2).to(torch.uint8)
    answers = network()(torch.randn(2, 3, 16, 16))
    assert deep_loss(answers, target).item() == pytest.approx(
        sum(balanced_loss(answer, target).item() for answer in answers), rel=1e-6
    )


# Targets and crops


def test_consensus_of_annotators_by_hand():
    # drawn by 3, 2, 1 and 0 of 4
    maps = np.array([[[1, 1, 0, 0]], [[1, 1, 0, 0]], [[1, 0, 1, 0]], [[0, 0, 0, 0]]], bool)
    assert consensus(maps.mean(axis=0), 0.5).tolist() == [[EDGE, EDGE, IGNORED, NONE]]
    assert consensus(maps.mean(axis=0), 0.75).tolist() == [[EDGE, IGNORED, IGNORED, NONE]]
    assert consensus(maps[:1].mean(axis=0), 0.5).tolist() == [[EDGE, EDGE, NONE, NONE]]


def test_shrinking_keeps_a_boundary_that_touches_a_block():
    image = np.repeat(np.array([[0, 100, 10, 10, 7], [0, 100, 10, 10, 7]], np.uint8)[..., None], 3, axis=2)
    drawn = np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0]], bool)
    small, (boundary,) = shrunk(image, [drawn], 2)
    assert small[..., 0].tolist() == [[50, 10]] and boundary.tolist() == [[True, False]]
    assert shrunk(image, [drawn], 1)[0] is image
    with pytest.raises(InputError, match="shrink"):
        shrunk(image, [drawn], 3)


@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(5, 60))
@hypothesis_settings(max_examples=40, deadline=None)
def test_a_crop_moves_image_and_target_alike(seed, height, width):
    """Each pixel's colour says which it is, and the target follows from the colour."""
    number = np.arange(height * width).reshape(height, width)
    image = np.stack([number % 256, number // 256, np.zeros_like(number)], axis=2).astype(np.uint8)
    cropped, target = random_crop(image, (number % 3 == 0).astype(np.uint8), 32, np.random.default_rng(seed))
    assert cropped.shape == (32, 32, 3) and target.shape == (32, 32)
    found = cropped[..., 0].astype(int) + 256 * cropped[..., 1].astype(int)
    scored = target != IGNORED
    np.testing.assert_array_equal(target[scored], (found[scored] % 3 == 0))
    assert scored.sum() == min(height, 32) * min(width, 32) and len(np.unique(found[scored])) == scored.sum()


def test_all_eight_symmetries_are_drawn():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    crops = [
        random_crop(np.stack([image] * 3, 2), image % 2, 16, np.random.default_rng(seed))[0]
        for seed in range(100)
    ]
    assert len({crop.tobytes() for crop in crops}) == 8


def test_a_batch_depends_on_seed_and_step_alone(contours):
    pictures = read_pictures(contours, TINY)
    first, again, other = (draw_batch(pictures, TINY, step)[0] for step in (3, 3, 4))
    assert first.shape == (2, 3, 32, 32) and torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, draw_batch(pictures, TINY.model_copy(update={"seed": 1}), 3)[0])


def test_images_are_read_at_every_shrink(contours):
    sizes = [
        target.shape for _, target in read_pictures(contours, TINY.model_copy(update={"shrink": (1, 2)}))
    ]
    assert sizes == [(40, 52), (20, 26)] * 2


# Training and its file


@pytest.fixture(scope="module")
def trained(contours, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "hed.pt"
    return path, train_hed(contours, TINY, path, CPU)


def test_training_lowers_the_loss_and_finds_the_disc(contours, trained):
    path, saved = trained
    assert saved.complete and saved.losses[-5:].mean() < 0.75 * saved.losses[:5].mean()
    target, edges = read_pictures(contours, TINY)[0][1], look(contours[0].image(0), load_hed(path))
    assert edges[target == EDGE].mean() > edges[target == NONE].mean() + 0.2


def test_the_file_says_where_the_trunk_came_from_and_how_it_was_trained(trained):
    identity = load_checkpoint(trained[0]).identity
    assert identity["trunk"] == "from scratch" and identity["batch_norm"] and identity["images"] == 2
    assert identity["settings"]["width"] == 4 and identity["settings"]["iterations"] == 30


def test_a_complete_file_is_returned_as_it_is(contours, trained, monkeypatch):
    before = trained[0].stat().st_mtime_ns
    monkeypatch.setattr(hed_training, "read_pictures", lambda *given: pytest.fail("trained again"))
    assert train_hed(contours, TINY, trained[0], CPU).complete
    assert trained[0].stat().st_mtime_ns == before


def test_an_interrupted_training_goes_on_and_ends_alike(contours, trained, tmp_path, monkeypatch):
    settings, real = TINY.model_copy(update={"checkpoint_minutes": 0.0}), EdgeTraining._train_step

    def killed(training, *given):
        if training.step == 14:
            raise KeyboardInterrupt
        return real(training, *given)

    with monkeypatch.context() as patch:
        patch.setattr(EdgeTraining, "_train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_hed(contours, settings, tmp_path / "hed.pt", CPU)
    with pytest.raises(InputError, match="trained to step 10 of 30 only"):
        load_hed(tmp_path / "hed.pt")
    resumed = train_hed(contours, settings, tmp_path / "hed.pt", CPU)
    assert torch.equal(resumed.losses, trained[1].losses)
    assert all(torch.equal(value, trained[1].method[name]) for name, value in resumed.method.items())


def test_a_file_of_other_settings_is_not_continued(contours, trained):
    with pytest.raises(InputError, match=r"hed\.pt: made with other settings: lr"):
        train_hed(contours, TINY.model_copy(update={"lr": 2e-2}), trained[0], CPU)


def test_a_loss_that_is_no_number_stops_the_training(contours, tmp_path, monkeypatch):
    monkeypatch.setattr(edge_training, "deep_loss", lambda answers, *rest: answers[-1].sum() * float("nan"))
    with pytest.raises(InputError, match=r"the loss is nan at step 0 of 30; lower hed\.lr"):
        train_hed(contours, TINY, tmp_path / "hed.pt", CPU)
    assert not (tmp_path / "hed.pt").exists()


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "other"])
def test_a_file_that_holds_no_edge_network_is_refused(trained, tmp_path, kind):
    path = tmp_path / "weights.pt"
    if kind == "text":
        path.write_text("no weights")
    elif kind == "cut":
        path.write_bytes(trained[0].read_bytes()[:2000])
    elif kind == "other":
        save_checkpoint(path, dataclasses.replace(trained[1], identity={"method": "hierarchical"}))
    with pytest.raises(InputError, match=r"weights\.pt: ") as caught:
        load_hed(path)
    assert "\n" not in str(caught.value)


def test_missing_imagenet_weights_are_told_before_any_image_is_read(contours, tmp_path, monkeypatch):
    monkeypatch.setattr(hed_training, "read_pictures", lambda *given: pytest.fail("read images"))
    settings = HedSettings(imagenet_weights=str(tmp_path / "vgg16.pth"))
    remedy = "put torchvision's vgg16 weights there, or set hed.imagenet_weights to null"
    with pytest.raises(InputError, match=re.escape(f"vgg16.pth: no such file; {remedy}")):
        train_hed(contours, settings, tmp_path / "hed.pt", CPU)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_imagenet_weights_are_taken_and_the_origin_names_the_file(tmp_path, monkeypatch, batch_norm):
    """A narrow stand-in for torchvision's file: the same keys, fewer channels."""
    monkeypatch.setattr(hed_training, "VGG16", 2)
    given = network(width=2, batch_norm=batch_norm, seed=5).features.state_dict()
    path = tmp_path / "vgg16-given.pth"
    torch.save(
        {**{f"features.{key}": value for key, value in given.items()}, "classifier.0.bias": torch.zeros(3)},
        path,
    )
    settings = HedSettings(width=2, imagenet_weights=str(path))
    model, found = initial_network(settings)
    assert found == batch_norm and all(
        torch.equal(value, given[key]) for key, value in model.features.state_dict().items()
    )
    origin = trunk_origin(settings)
    assert origin.startswith("ImageNet weights vgg16-given.pth (sha256 ") and str(tmp_path) not in origin


def test_foreign_or_too_narrow_imagenet_weights_are_one_line(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"resnet\.pth: not torchvision's vgg16"):
        initial_network(HedSettings(imagenet_weights=str(path)))
    with pytest.raises(InputError, match=r"'hed\.width'.*set it to 64"):
        initial_network(HedSettings(imagenet_weights=str(path), width=16))


def test_the_rate_warms_up_and_ends_near_zero():
    rates = [learning_rate(HedSettings(iterations=100, lr=1.0), step) for step in range(100)]
    assert rates[0] < 0.2 and max(rates) > 0.95 and rates[-1] < 0.01 and rates.index(max(rates)) <= 6
    assert learning_rate(HedSettings(iterations=1, lr=1.0), 0) == 1.0


# Detection


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (3, 5), (15, 17), (64, 65)])
def test_any_size_works(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    edges = look(image, network())
    assert edges.shape == shape and edges.dtype == np.float32 and edges.min() >= 0 and edges.max() <= 1


def test_grey_is_read_as_colour_and_a_constant_image_has_one_answer_inside():
    model = network(width=4)
    grey = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
    np.testing.assert_array_equal(look(grey, model), look(np.stack([grey] * 3, axis=2), model))
    # the border is 196 px of receptive field away or so
    inside = look(np.full((400, 400), 90, np.uint8), model)[160:240, 160:240]
    assert np.ptp(inside) < 1e-3


def test_the_setting_chooses_the_detector(trained):
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    path, settings = trained[0], GroupingSettings(edges="hed", scales=(1.0,))
    np.testing.assert_array_equal(
        detect_edges(image, settings, EdgeNetwork(path)), look(image, load_hed(path))
    )
    doubled = detect_edges(image, GroupingSettings(edges="hed", scales=(1.0, 2.0)), EdgeNetwork(path))
    assert doubled.shape == (20, 30) and not np.array_equal(doubled, look(image, load_hed(path)))
    with pytest.raises(InputError, match="train-hed"):
        detect_edges(image, settings)


def test_a_file_written_anew_is_read_anew(contours, tmp_path):
    path = tmp_path / "hed.pt"
    outputs = []
    for seed in (0, 1):
        path.unlink(missing_ok=True)
        train_hed(contours, TINY.model_copy(update={"iterations": 1, "seed": seed}), path, CPU)
        outputs.append(load_hed(path).fusion.weight.clone())
    assert load_hed(path) is load_hed(path) and not torch.equal(*outputs)


def test_grouping_by_the_forest_needs_no_torch():
    modules = "hgrl.grouping.group, hgrl.grouping.forest.model, hgrl.data.sources"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
