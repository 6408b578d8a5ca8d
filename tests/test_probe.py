"""The probe: a frozen network stays frozen, void is not scored, and what can be read off linearly is read
off.
"""

import itertools

import cv2
import numpy as np
import pytest
import torch
from conftest import with_masks
from PIL import Image
from pydantic import ValidationError
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from hgrl.core.errors import InputError
from hgrl.core.settings import ProbeSettings
from hgrl.evaluation import probe
from hgrl.evaluation.batches import LabelledCrops, grouped_order, read_pair, whole_image_batches
from hgrl.evaluation.features import BaselineFeatures, NetworkFeatures, equal_sized
from hgrl.evaluation.heads import aspp_head, build_head, fcn_head
from hgrl.evaluation.probe import (
    _cross_entropy,
    class_weights,
    image_confusions,
    predict,
    split_scores,
    train_probe,
)
from hgrl.metrics.segmentation import confusion_matrix
from hgrl.pretraining.network import Network

CPU = torch.device("cpu")


def tiny_features(settings):
    torch.manual_seed(0)
    return NetworkFeatures(Network(settings.network), CPU)


def evaluate_probe(features, heads, val, settings):
    return split_scores(image_confusions(features, heads, val, settings), val.classes)


class OfMixedSizes:
    """A split nine times over; the middle third is cut to half the height."""

    def __init__(self, samples):
        self.samples, self.classes = samples, samples.classes

    def __len__(self):
        return 9 * len(self.samples)

    def image(self, index, short_side=None):
        return self._cut(index, self.samples.image(index % len(self.samples)))

    def mask(self, index):
        return self._cut(index, self.samples.mask(index % len(self.samples)))

    def _cut(self, index, pixels):
        return pixels[: len(pixels) // 2] if 3 <= index // len(self.samples) < 6 else pixels


def copy_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_a_probe_leaves_a_frozen_network_as_it_was(dataset, settings):
    features = tiny_features(settings)
    before = copy_of(features.network)
    train_probe(features, dataset[0], settings.probe, seed=0)
    after = features.network.state_dict()  # weights and the statistics of batch normalisation
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not features.network.training
    assert all(p.grad is None for p in features.network.parameters())


def test_end_to_end_the_network_learns_too(dataset, settings):
    features = tiny_features(settings)
    before = copy_of(features.network)
    train_probe(features, dataset[0], settings.probe, seed=0, end_to_end=True)
    after = features.network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert {"backbone.conv1.weight", "backbone.bn1.running_mean"} <= changed
    assert not features.network.training


def test_whole_images_are_embedded_as_they_would_be_one_by_one(dataset, tiny):
    settings = tiny({"probe.crops": False, "probe.batch": 2}).probe
    features, samples = tiny_features(tiny({})), dataset[0]
    maps, masks = next(whole_image_batches(features, ["backbone"], samples, settings, seed=0))
    whole = [cv2.resize(samples.image(index), (48, 32)) for index in range(len(samples))]  # 16-pixel cells
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in whole])
    truths = torch.stack([torch.from_numpy(samples.mask(index)) for index in range(len(samples))])
    rows = torch.arange(2, 40, 5)  # the centres of 8 rows of cells, 5 of the 40 pixels high, rounded down
    quarter = truths[:, rows][:, :, 2::4]  # and of 12 columns, rounded up
    cells = torch.cat([quarter, quarter.flip(-1)])
    with torch.no_grad():
        candidates = torch.cat([features(seen, ["backbone"])[0] for seen in (images, images.flip(-1))])
    for embedded, mask in zip(maps["backbone"], masks, strict=True):
        row = int((candidates - embedded).abs().flatten(1).amax(1).argmin())
        torch.testing.assert_close(embedded, candidates[row], rtol=1 / 128, atol=1e-6)  # kept in bfloat16
        torch.testing.assert_close(mask, cells[row])


def test_every_image_and_its_mirror_image_is_seen_once_an_epoch_among_others_of_its_size(dataset, tiny):
    settings, features = tiny({"probe.batch": 5}).probe, BaselineFeatures("lab-position")
    mixed = OfMixedSizes(dataset[0].subset(range(4)))  # of 36 images 12 are half as high
    batches = whole_image_batches(features, ["embedding", "backbone"], mixed, settings, seed=0)
    shapes, colours = [], []
    for _ in range(-(-48 // 5) + -(-24 // 5)):
        maps, masks = next(batches)
        assert maps["embedding"].shape[2:] == masks.shape[1:] and len(maps["backbone"]) == len(masks)
        assert 2 <= len(masks) <= 5
        shapes += [tuple(mask.shape) for mask in masks]
        colours += [
            (tuple(mask.shape), *cells.flatten().tolist())
            for cells, mask in zip(maps["embedding"], masks, strict=True)
        ]
    assert {shape: shapes.count(shape) for shape in shapes} == {(8, 12): 48, (4, 12): 24}
    counts = [colours.count(colour) for colour in set(colours)]
    assert sorted(counts) == [3] * 8 + [6] * 8  # four images and their mirror images, three or six times over


@pytest.mark.parametrize("sizes, batch", [([7, 2, 30], 4), ([2], 16), ([16, 17], 16), ([3], 2)])
def test_an_epoch_has_every_row_of_every_group_once_in_an_order_of_its_own(sizes, batch):
    order, count = grouped_order(sizes, batch, seed=1), sum(-(-size // batch) for size in sizes)
    first, second = ([next(order) for _ in range(count)] for _ in range(2))
    for epoch in (first, second):
        assert all(len(rows) <= batch for _, rows in epoch)
        for group, size in enumerate(sizes):
            assert sorted(row for own, rows in epoch for row in rows.tolist() if own == group) == [
                *range(size)
            ]
    again = itertools.islice(grouped_order(sizes, batch, seed=1), count)
    assert all(own == group and torch.equal(a, b) for (own, a), (group, b) in zip(first, again, strict=True))
    if sum(sizes) > 16:
        assert [rows.tolist() for _, rows in first] != [rows.tolist() for _, rows in second]


def test_images_of_different_sizes_train_heads_without_crops(dataset, tiny):
    changes = {"probe.crops": False, "probe.heads": ["linear-embedding"], "probe.lr": 0.1}
    settings = tiny({**changes, "probe.iterations": 60}).probe
    mixed, features = OfMixedSizes(dataset[0]), BaselineFeatures("lab-position")
    heads = train_probe(features, mixed, settings, seed=0)
    assert evaluate_probe(features, heads, mixed, settings)["linear-embedding"]["pixel_accuracy"] > 0.95


def test_whole_images_train_the_same_heads_for_the_same_seed(dataset, tiny):
    settings, features = tiny({"probe.crops": False}).probe, tiny_features(tiny({}))
    first, second = (copy_of(train_probe(features, dataset[0], settings, seed=3)) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_images_scored_together_are_scored_as_one_by_one(dataset, tiny):
    """Also in the split's order, whatever the images' sizes."""
    settings = tiny({}).probe
    features, samples = tiny_features(tiny({})), dataset[0]
    heads, mixed = train_probe(features, samples, settings, seed=0), OfMixedSizes(samples)
    together, alone = image_confusions(features, heads, mixed, settings), {name: [] for name in heads}
    for index in range(len(mixed)):
        mask = mixed.mask(index)
        for name, predicted in predict(features, heads, mixed.image(index)[None], mask.shape).items():
            alone[name].append(confusion_matrix(mask, predicted[0], len(mixed.classes)))
    for name, matrices in together.items():
        assert (
            matrices.shape == (len(mixed), len(mixed.classes), len(mixed.classes))
            and matrices.dtype == np.int64
        )
        # the same truths, image by image
        np.testing.assert_array_equal(matrices.sum(2), np.sum(alone[name], 2))
        # a tie may fall otherwise, for rounding
        assert np.abs(matrices - alone[name]).sum() <= 0.001 * matrices.sum()


def test_neighbours_of_one_size_go_together_in_order(dataset):
    mixed = OfMixedSizes(dataset[0])
    pairs = ((mixed.image(index), mixed.mask(index)) for index in range(len(mixed)))
    batches = list(equal_sized(pairs, 16))
    images, masks = ([image for batch in batches for image in batch[part]] for part in (0, 1))
    assert (
        len(images) == len(mixed)
        and len(batches) < len(mixed)
        and max(len(batch[0]) for batch in batches) <= 16
    )
    for index in range(len(mixed)):
        np.testing.assert_array_equal(images[index], mixed.image(index))
        np.testing.assert_array_equal(masks[index], mixed.mask(index))


def test_end_to_end_has_its_own_number_of_iterations(dataset, tiny, monkeypatch):
    settings, counted = tiny({"probe.iterations": 3, "probe.end_to_end.iterations": 5}), []
    features, real = tiny_features(settings), probe._cross_entropy
    monkeypatch.setattr(probe, "_cross_entropy", lambda *pair: counted.append(1) or real(*pair))
    train_probe(features, dataset[0], settings.probe, seed=0)
    assert len(counted) == 3 * 2  # heads
    train_probe(features, dataset[0], settings.probe, seed=0, end_to_end=True)
    assert len(counted) == 3 * 2 + 5


@pytest.mark.parametrize("name", ["aspp-stages", "linear-stages", "fcn-stages"])
def test_heads_on_two_stages_do_not_feel_the_stages_scales(name):
    torch.manual_seed(0)
    head, maps = (
        build_head(name, {"stages": 6}, 3, ProbeSettings(head_channels=4)).train(),
        torch.randn(4, 6, 8, 8),
    )
    dropout = [layer for layer in head.modules() if isinstance(layer, torch.nn.Dropout)]
    for layer in dropout:
        layer.p = 0.0
    scaled = maps * torch.tensor([100.0, 100.0, 100.0, 1.0, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(head(scaled), head(maps), rtol=1e-3, atol=1e-3)


def test_end_to_end_by_adam_on_a_head_of_its_own_and_down_to_no_rate(dataset, tiny, monkeypatch):
    own = {"head": "fcn-stages", "optimizer": "adam", "lr": 0.01, "schedule": "cosine", "iterations": 6}
    settings, made = tiny({"probe.end_to_end": own}), []
    real = probe._optimizer
    monkeypatch.setattr(probe, "_optimizer", lambda *given: made.append(real(*given)) or made[-1])
    heads = train_probe(tiny_features(settings), dataset[0], settings.probe, seed=0, end_to_end=True)
    optimizer, _ = made[0]
    assert list(heads) == ["fcn-stages"] and isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


def test_a_linear_head_reads_classes_that_are_colours(dataset, tiny):
    settings = tiny({"probe.heads": ["linear-embedding"], "probe.iterations": 60, "probe.lr": 0.1}).probe
    features, samples = BaselineFeatures("lab-position"), dataset[0]
    heads = train_probe(features, samples.subset(range(6)), settings, seed=0)
    scores = evaluate_probe(features, heads, samples.subset([6, 7]), settings)["linear-embedding"]
    assert scores["pixel_accuracy"] > 0.97 and scores["miou"] > 0.95
    assert list(scores["iou"]) == ["left", "above", "below"]


def test_position_alone_cannot_tell_classes_that_move(dataset, tiny, tmp_path):
    """The masks' classes exchanged at random: nothing can be learnt, and the score shows it."""
    random, masks = np.random.default_rng(0), []
    for index, path in enumerate(dataset[0].masks):
        masks.append(tmp_path / f"mixed{index}.png")
        Image.fromarray(random.permutation(3).astype(np.uint8)[np.asarray(Image.open(path))]).save(masks[-1])
    settings, samples = (
        tiny({"probe.heads": ["linear-embedding"], "probe.iterations": 30}).probe,
        with_masks(dataset[0], masks),
    )
    features = BaselineFeatures("position")
    heads = train_probe(features, samples.subset(range(6)), settings, seed=0)
    assert evaluate_probe(features, heads, samples.subset([6, 7]), settings)["linear-embedding"]["miou"] < 0.6


def test_a_seed_fixes_the_heads(dataset, settings):
    def trained(seed, **changed):
        own = settings.probe.model_copy(update=changed)
        heads = train_probe(tiny_features(settings), dataset[0], own, seed)
        return torch.cat([p.flatten() for p in heads.parameters()])

    first, again, other = trained(0), trained(0), trained(1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, trained(0, schedule="cosine"))
    assert not torch.equal(first, trained(0, class_balance=1.0))


def test_void_is_not_scored_and_a_batch_of_void_alone_gives_no_nan():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    void = torch.full((2, 8, 8), 255, dtype=torch.uint8)
    loss = _cross_entropy(logits, void)
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))
    half = void.clone()
    half[0] = 1
    expected = torch.nn.functional.cross_entropy(
        torch.nn.functional.interpolate(logits[:1], size=(8, 8), mode="bilinear", align_corners=False),
        half[:1].long(),
    )
    torch.testing.assert_close(_cross_entropy(logits, half), expected)


def test_rare_classes_weigh_more_by_the_power_of_their_frequency(dataset, tmp_path):
    mask = np.full((40, 48), 255, np.uint8)
    mask[:8, :8], mask[:4, :4] = 0, 1  # 48 pixels of class 0, 16 of class 1, none of the others
    Image.fromarray(mask).save(tmp_path / "mask.png")
    samples = with_masks(dataset[0].subset([0, 1]), [tmp_path / "mask.png"] * 2)
    weights = class_weights(samples, 0.5, CPU)
    scale = 0.75 * 0.75**-0.5 + 0.25 * 0.25**-0.5  # so that the mean over pixels is 1
    expected = [0.75**-0.5 / scale, 0.25**-0.5 / scale] + [0.0] * (len(samples.classes) - 2)
    torch.testing.assert_close(weights, torch.tensor(expected))
    full = class_weights(samples, 1.0, CPU)
    assert 48 * full[0] == pytest.approx(16 * full[1].item())  # every class has one share of the loss


def test_weights_of_classes_enter_the_loss_pixel_by_pixel():
    logits, masks = torch.randn(1, 2, 4, 4), torch.randint(0, 2, (1, 4, 4), dtype=torch.uint8)
    masks[0, 0, 0], weights, total = 255, torch.tensor([0.5, 3.0]), 0.0
    for y, x in itertools.product(range(4), range(4)):
        if masks[0, y, x] != 255:
            total -= weights[masks[0, y, x].long()] * logits[0, :, y, x].log_softmax(0)[masks[0, y, x].long()]
    torch.testing.assert_close(_cross_entropy(logits, masks, weights), total / 15)


def test_training_on_void_alone_leaves_finite_heads(dataset, settings, tmp_path):
    path = tmp_path / "void.png"
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(path)
    samples = with_masks(dataset[0], [path] * 8)
    features = tiny_features(settings)
    heads = train_probe(features, samples, settings.probe, seed=0)
    assert all(torch.isfinite(value).all() for value in heads.state_dict().values())
    scores = evaluate_probe(features, heads, samples, settings.probe)
    assert all(np.isnan(score["miou"]) for score in scores.values())


@pytest.mark.parametrize("short_side", [20, 80])
def test_images_may_be_read_at_another_size_than_their_masks(dataset, tiny, short_side):
    settings = tiny(
        {
            "probe.short_side": short_side,
            "probe.heads": ["linear-embedding"],
            "probe.iterations": 60,
            "probe.lr": 0.1,
        }
    ).probe
    image, mask = read_pair(dataset[0], 0, settings.short_side)
    assert image.shape[-2:] == mask.shape == (short_side, short_side * 48 // 40)
    assert (
        (mask[: short_side // 2, -1] == 1).all()
        and (mask[short_side // 2 :, -1] == 2).all()
        and (mask[:, 0] == 0).all()
    )
    features = BaselineFeatures("lab-position")
    heads = train_probe(features, dataset[0], settings, seed=0)
    # at the masks' own size
    assert evaluate_probe(features, heads, dataset[0], settings)["linear-embedding"]["pixel_accuracy"] > 0.9


def test_crops_carry_their_labels_and_their_seed(dataset, settings):
    crops = LabelledCrops(dataset[0], settings.probe, seed=0)
    image, mask = crops[0, 3]
    assert (image.shape, image.dtype, mask.shape, mask.dtype) == (
        (3, 32, 32),
        torch.uint8,
        (32, 32),
        torch.uint8,
    )
    assert (image.argmax(0) == mask).float().mean() > 0.9  # region k is painted in channel k
    assert torch.equal(image, crops[0, 3][0]) and not torch.equal(image, crops[1, 3][0])


def test_all_heads_of_a_network_are_trained_by_their_names(dataset, tiny):
    names = [
        "linear-backbone",
        "linear-stages",
        "linear-hypercolumn",
        "linear-embedding",
        "aspp-backbone",
        "aspp-stages",
        "aspp-hypercolumn",
        "aspp-embedding",
    ]
    settings = tiny({"probe.heads": names, "probe.iterations": 1}).probe
    features = tiny_features(tiny())
    assert (
        list(evaluate_probe(features, train_probe(features, dataset[0], settings, 0), dataset[0], settings))
        == names
    )


@pytest.mark.parametrize("name", ["deep-backbone", "aspp", "aspp-logits", "aspp-backbone-2", ""])
def test_an_unknown_head_is_no_setting(name):
    with pytest.raises(ValidationError, match="aspp"):
        ProbeSettings(heads=(name,))


def test_an_empty_split_is_one_line(dataset, settings):
    with pytest.raises(InputError, match="no images"):
        train_probe(tiny_features(settings), dataset[0].subset([]), settings.probe, seed=0)


def test_the_fcn_head_is_that_of_mocos_paper():
    """Two 3x3 convolutions of 256 channels at dilation 6, with BN and ReLU, and a 1x1 classifier; the size
    stays.
    """
    head = fcn_head(1024, 21, ProbeSettings())
    shapes = [
        (tuple(layer.weight.shape), layer.dilation[0]) for layer in head if isinstance(layer, torch.nn.Conv2d)
    ]
    assert shapes == [((256, 1024, 3, 3), 6), ((256, 256, 3, 3), 6), ((21, 256, 1, 1), 1)]
    assert [type(layer).__name__ for layer in head] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Conv2d"]
    assert head(torch.zeros(1, 1024, 5, 7)).shape == (1, 21, 5, 7)


def test_the_aspp_head_is_deeplabv3s():
    """Five branches of 256 (1x1, three atrous, pooled), projected to 256, one 3x3, the classifier."""
    with torch.device("meta"):
        head, theirs = aspp_head(1024, 21, ProbeSettings()), DeepLabHead(1024, 21)
    ours, theirs = (
        {key: value.shape for key, value in module.state_dict().items()} for module in (head, theirs)
    )
    assert ours == theirs
    assert [branch[0].dilation[0] for branch in list(head[0].convs)[1:4]] == [12, 24, 36]
