"""PiDiNet: its differences and their folding, its crops, its training and its file, batches of images."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from toy_bsds import write_discs

from hgrl import __main__ as cli
from hgrl.core.checkpoint import load_checkpoint, save_checkpoint
from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings, PidinetSettings
from hgrl.data.sets.bsds import open_bsds
from hgrl.data.sets.folder import open_folder
from hgrl.grouping import edges as edges_module
from hgrl.grouping import group as grouping
from hgrl.grouping.edge_network import detect, load_network
from hgrl.grouping.edge_training import EDGE, IGNORED, NONE, EdgeTraining, balanced_loss, consensus
from hgrl.grouping.edges import EdgeNetwork, detect_edges, detect_edges_of
from hgrl.grouping.group import group_images, tree_recipe
from hgrl.grouping.pidinet.network import ORDER, SIZES, Block, DifferenceConv, PiDiNet, plain_kernel
from hgrl.grouping.pidinet.training import draw_batch, jittered, random_crop, read_pictures, train_pidinet

QUICK = PidinetSettings(size="tiny", crop_size=32, iterations=30, batch=2, average=0.9)
CPU = torch.device("cpu")
WHOLE = PidinetSettings(crop_size=32, resized=(1, 1), angles=4)  # pixels move onto pixels


def network(size="tiny", seed=0):
    torch.manual_seed(seed)
    model = PiDiNet(size)
    for value in model.parameters():  # biases too: a network at its start has few
        torch.nn.init.normal_(value, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def contours(tmp_path_factory):
    root = tmp_path_factory.mktemp("contours")
    write_discs(root / "BSDS500")
    return [open_bsds(root, "BSDS500", "train")]


# The network


@pytest.mark.parametrize(("size", "published"), [("tiny", 84e3), ("small", 184e3), ("full", 710e3)])
def test_the_sizes_are_the_papers(size, published):
    assert sum(value.numel() for value in PiDiNet(size).parameters()) == pytest.approx(published, rel=0.01)


def slow_differences(image, weight, kind):
    """Section 3.2 pixel by pixel: image (H, W), weight (3, 3), zeros around. Angular pairs go clockwise."""
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    padded, result = np.pad(image, 2), np.zeros(image.shape)
    for y, x in np.ndindex(image.shape):

        def pixel(step, far=1, y=y, x=x):
            return padded[y + 2 + far * step[0], x + 2 + far * step[1]]

        for k, step in enumerate(around):
            subtrahend = {
                "central": pixel((0, 0)),
                "angular": pixel(around[(k + 1) % 8]),
                "radial": pixel(step),
                "vanilla": 0,
            }[kind]
            minuend = pixel(step, 2 if kind == "radial" else 1)
            result[y, x] += weight[1 + step[0], 1 + step[1]] * (minuend - subtrahend)
        result[y, x] += weight[1, 1] * pixel((0, 0)) if kind == "vanilla" else 0
    return result


@pytest.mark.parametrize("kind", ORDER)
def test_a_plain_kernel_does_what_the_differences_do(kind):
    random = np.random.default_rng(0)
    image, weight = random.normal(size=(7, 9)), random.normal(size=(3, 3))
    layer = DifferenceConv(1, 1, kind).double()
    layer.weight.data = torch.from_numpy(weight)[None, None]
    ours = layer(torch.from_numpy(image)[None, None])[0, 0].detach().numpy()
    np.testing.assert_allclose(ours, slow_differences(image, weight, kind), atol=1e-12)


@pytest.mark.parametrize("kind", ORDER[:3])
def test_differences_do_not_see_a_constant(kind):
    kernel = plain_kernel(torch.randn(4, 3, 3, 3), kind)
    assert kernel.shape[-1] == (5 if kind == "radial" else 3)
    assert kernel.sum(dim=(2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_the_folded_network_answers_as_the_unfolded(size):
    model, images = network(size), torch.randn(2, 3, 40, 56)
    with torch.inference_mode():
        before, folded = model(images), model.fold()
        after = folded(images)
    assert not any(isinstance(layer, DifferenceConv) for layer in folded.modules())
    assert len(before) == 5 and all(answer.shape == (2, 1, 40, 56) for answer in before)
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_layers_stand_in_the_papers_order_and_their_strides():
    model = PiDiNet("small")
    kinds = [model.first.kind, *(b.differences.kind for b in model.modules() if isinstance(b, Block))]
    assert kinds == list(ORDER) * 4 and [len(stage) for stage in model.stages] == [3, 4, 4, 4]
    seen = []
    for side in model.sides:
        side.register_forward_hook(lambda layer, inputs, output: seen.append(tuple(inputs[0].shape[1:])))
    model(torch.randn(1, 3, 64, 96))
    assert seen == [(30, 64, 96), (60, 32, 48), (120, 16, 24), (120, 8, 12)]


# The loss and the crops


def test_pixels_without_an_edge_weigh_a_tenth_more():
    """One edge among four counted pixels at logit 0: (3/4 + 1.1 * 3 * 1/4) log 2 / 4."""
    target = torch.tensor([[[EDGE, NONE, NONE, NONE, IGNORED]]], dtype=torch.uint8)
    loss = balanced_loss(torch.zeros(1, 1, 1, 5), target, none_weight=1.1)
    assert loss.item() == pytest.approx(0.75 * 2.1 * np.log(2) / 4)


def test_targets_from_shares():
    shares = np.array([0, 0.2, 0.29, 0.3, 1, -1, -0.01], np.float32)
    expected = [NONE, IGNORED, IGNORED, EDGE, EDGE, IGNORED, IGNORED]
    assert consensus(shares, np.float32(0.3)).tolist() == expected


@given(st.integers(0, 10_000), st.integers(5, 60), st.integers(5, 60))
@hypothesis_settings(max_examples=30, deadline=None)
def test_a_crop_of_quarter_turns_moves_image_and_target_alike(seed, height, width):
    """Each pixel's colour says which it is, and the target follows from the colour."""
    number = np.arange(height * width).reshape(height, width)
    image = np.stack([number % 256, number // 256, 0 * number], axis=2).astype(np.uint8)
    share = (number % 3 == 0).astype(np.float32)
    cropped, moved = random_crop(image, share, WHOLE, np.random.default_rng(seed))
    found, inside = cropped[..., 0].astype(int) + 256 * cropped[..., 1].astype(int), moved >= 0
    assert cropped.shape == (32, 32, 3) and inside.sum() == min(height, 32) * min(width, 32)
    np.testing.assert_array_equal(moved[inside], found[inside] % 3 == 0)
    assert len(np.unique(found[inside])) == inside.sum()


def test_all_rotations_and_flips_are_drawn():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    share = np.zeros((32, 32), np.float32)
    for angles in (4, 16):
        how = WHOLE.model_copy(update={"angles": angles})
        crops = {random_crop(image, share, how, np.random.default_rng(k))[0].tobytes() for k in range(300)}
        assert len(crops) == 2 * angles


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_image_and_target_stay_together_when_resized_and_turned(factor):
    """An annotated line is dark in the image, and is so in every crop."""
    image, share = np.full((90, 90, 3), 200, np.uint8), np.zeros((90, 90), np.float32)
    image[:, 44:47], share[:, 45] = 20, 1
    how = PidinetSettings(crop_size=32, resized=(factor, factor))
    for seed in range(20):
        cropped, moved = random_crop(image, share, how, np.random.default_rng(seed))
        target = consensus(moved, 0.3)
        assert (target == NONE).any() and cropped[target == EDGE].max(initial=0) < 150
        assert (cropped[target == NONE].mean() > 150) and (target == EDGE).sum() < 150


def test_a_jitter_of_nothing_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    np.testing.assert_array_equal(jittered(image, 0, np.random.default_rng(0)), image)
    assert jittered(image, 0.2, np.random.default_rng(0)).std() != image.std()


def test_a_batch_depends_on_seed_and_step_alone(contours):
    pictures = read_pictures(contours)
    first, again, other = (draw_batch(pictures, QUICK, step)[0] for step in (3, 3, 4))
    assert first.shape == (2, 3, 32, 32) and torch.equal(first, again) and not torch.equal(first, other)


# Training and its file


@pytest.fixture(scope="module")
def trained(contours, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "pidinet.pt"
    return path, train_pidinet(contours, QUICK, path, CPU)


def test_training_lowers_the_loss_and_writes_the_average(contours, trained, monkeypatch, tmp_path):
    path, saved = trained
    assert saved.complete and saved.losses[-5:].mean() < 0.9 * saved.losses[:5].mean()
    followed, real = {}, EdgeTraining._train_step

    def follow(training, *given):
        loss = real(training, *given)
        kept = min(0.9, (1 + training.step) / (10 + training.step))
        now = training.model.fusion.weight.detach().clone()
        followed["w"] = kept * followed.get("w", 0.25) + (1 - kept) * now
        return loss

    monkeypatch.setattr(EdgeTraining, "_train_step", follow)
    train_pidinet(contours, QUICK, tmp_path / "again.pt", CPU)
    torch.testing.assert_close(load_checkpoint(path).method["fusion.weight"], followed["w"])


def test_an_interrupted_training_goes_on_and_ends_alike(contours, trained, tmp_path, monkeypatch):
    settings, real = QUICK.model_copy(update={"checkpoint_minutes": 0.0}), EdgeTraining._train_step

    def killed(training, *given):
        if training.step == 14:
            raise KeyboardInterrupt
        return real(training, *given)

    path = tmp_path / "pidinet.pt"
    with monkeypatch.context() as patch:
        patch.setattr(EdgeTraining, "_train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train_pidinet(contours, settings, path, CPU)
    with pytest.raises(InputError, match="trained to step 10 of 30 only"):
        load_network(path, "pidinet")
    resumed = train_pidinet(contours, settings, path, CPU)
    assert torch.equal(resumed.losses, trained[1].losses)
    assert resumed.method.keys() == trained[1].method.keys()
    assert all(torch.equal(value, trained[1].method[name]) for name, value in resumed.method.items())


def test_a_file_of_another_network_is_refused(trained, tmp_path):
    save_checkpoint(tmp_path / "hed.pt", dataclasses.replace(trained[1], identity={"kind": "hed"}))
    for path, kind in ((tmp_path / "hed.pt", "pidinet"), (trained[0], "hed")):
        with pytest.raises(InputError, match=f"holds no edge network of kind {kind}"):
            load_network(path, kind)


def test_the_command_trains_and_its_file_groups(contours, tmp_path, capsys):
    home, out = contours[0].images[0].parents[3], tmp_path / "own.pt"
    flags = ["--size", "tiny", "--iterations", "2", "--batch", "1", "--crop-size", "32", "--device", "cpu"]
    assert (
        cli.main(["train-pidinet", "--data", str(home), "--splits", "train", "--out", str(out), *flags]) == 0
    )
    assert "from scratch" in capsys.readouterr().out
    photograph = str(contours[0].images[0])
    assert cli.main(["group", photograph, "--out", str(tmp_path / "trees"), "--pidinet", str(out)]) == 0
    assert list((tmp_path / "trees").rglob("*.npz"))
    both = ["group", photograph, "--out", str(tmp_path / "trees"), "--hed", "a.pt", "--pidinet", str(out)]
    assert cli.main(both) == 1 and "two detectors" in capsys.readouterr().err


# Detection


def test_without_weights_one_line_says_so(tmp_path, monkeypatch, capsys, contours):
    monkeypatch.setattr(edges_module, "PIDINET", tmp_path / "pidinet.pt")
    with pytest.raises(InputError, match=r"do not come with this version; train one with .*train-pidinet"):
        detect_edges(np.zeros((9, 9, 3), np.uint8), GroupingSettings(edges="pidinet"))
    photograph = str(contours[0].images[0])
    assert cli.main(["group", photograph, "--out", str(tmp_path / "trees"), "--pidinet"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "train-pidinet" in lines[0]


def test_shipped_weights_are_found_and_count_in_a_trees_origin(trained, monkeypatch):
    settings = GroupingSettings(edges="pidinet")
    before = tree_recipe(settings, None)
    for module in (edges_module, grouping):
        monkeypatch.setattr(module, "PIDINET", trained[0])
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    given = EdgeNetwork(trained[0])
    np.testing.assert_array_equal(detect_edges(image, settings), detect_edges(image, settings, given))
    assert tree_recipe(settings, None) == tree_recipe(settings, given) != before


def test_mirrored_images_have_mirrored_edges(trained):
    model = load_network(trained[0], "pidinet")
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)  # with the margins: 48 and 64
    once, mirrored = (detect([one], model, mirror=True)[0] for one in (image, image[:, ::-1]))
    np.testing.assert_allclose(mirrored[:, ::-1], once, atol=1e-5)
    assert np.abs(detect([image], model)[0] - once).max() > 1e-4


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (15, 17), (64, 65)])
def test_images_together_have_the_edges_that_they_have_one_by_one(trained, shape):
    images = list(np.random.default_rng(0).integers(0, 256, (5, *shape, 3), np.uint8))
    settings, net = GroupingSettings(edges="pidinet", scales=(0.5, 1.0)), EdgeNetwork(trained[0])
    for image, together in zip(images, detect_edges_of(images, settings, net), strict=True):
        alone = detect_edges(image, settings, net)
        assert alone.shape == shape and alone.dtype == np.float32 and 0 <= alone.min() <= alone.max() <= 1
        np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_network_on_a_gpu_is_asked_in_batches_and_the_trees_are_the_same(
    trained, contours, tmp_path, monkeypatch, workers
):
    """`cpu:0` stands for a device of its own; a file that is no image is told as ever."""
    (tmp_path / "text.jpg").write_text("no image")
    samples = open_folder([*contours[0].images, tmp_path / "text.jpg"])
    settings, sizes, real = GroupingSettings(edges="pidinet", scales=(1.0,)), [], grouping.detect_edges_of
    monkeypatch.setattr(grouping, "BATCH", 2)
    with monkeypatch.context() as patch:
        patch.setattr(grouping, "detect_edges_of", lambda *given: sizes.append(len(given[0])) or real(*given))
        batched = EdgeNetwork(trained[0], "cpu:0")
        failures = group_images(samples, tmp_path / "together", settings, workers, network=batched)
    assert [name.rpartition("/")[2] for name in failures] == ["text"]
    assert sum(sizes) == len(samples) - 1 and max(sizes) == 2
    group_images(samples, tmp_path / "alone", settings, network=EdgeNetwork(trained[0]))
    for file in (tmp_path / "alone").rglob("*.npz"):
        other = tmp_path / "together" / file.relative_to(tmp_path / "alone")
        with np.load(file) as alone, np.load(other) as together:
            np.testing.assert_array_equal(alone["labels"], together["labels"])
            np.testing.assert_allclose(alone["heights"], together["heights"], atol=1e-5)
    again = group_images(samples, tmp_path / "together", settings, workers, network=batched)
    assert again == failures
