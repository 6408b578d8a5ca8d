"""Batches: an order that a seed fixes from any step on, and labels that belong to their images."""

import numpy as np
import pytest
import torch
from conftest import COLOURS, one_region, three_regions
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jobs import job_of
from PIL import Image

from hgrl.core.errors import InputError
from hgrl.core.settings import AugmentSettings, SamplingSettings
from hgrl.data.samples import Samples
from hgrl.pretraining.loop import TrainingLoop
from hgrl.sampling.augment import TwoViews
from hgrl.sampling.order import EpochOrder, mixed_seed
from hgrl.sampling.pixels import positive_probability, sample_pixels
from hgrl.sampling.views import TrainingViews, batches

CPU = torch.device("cpu")


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    images=st.integers(1, 23),
    batch=st.integers(1, 9),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_an_order_resumed_at_any_step_is_the_tail_of_the_whole(data, images, batch, epochs, seed):
    whole = EpochOrder(images, batch, epochs, seed)
    start = data.draw(st.integers(0, whole.total))
    tail = EpochOrder(images, batch, epochs, seed, start)
    assert list(tail) == list(whole)[start:]
    assert len(tail) == whole.total - start == len(list(tail))


@pytest.mark.parametrize("images, batch", [(8, 4), (11, 4), (3, 4), (1, 2)])
def test_each_epoch_is_a_permutation_with_its_last_partial_batch_dropped(images, batch):
    order = EpochOrder(images, batch, 3, seed=0)
    assert order.total == 3 * order.steps_per_epoch
    drawn = {epoch: [] for epoch in range(3)}
    for step in order:
        assert len(step) == min(batch, images)
        for epoch, index in step:
            drawn[epoch].append(index)
    for indices in drawn.values():
        assert len(set(indices)) == len(indices) == images - images % min(batch, images)
        assert set(indices) <= set(range(images))
    if images > 4:
        assert drawn[0] != drawn[1] != drawn[2]


def test_another_seed_is_another_order():
    assert list(EpochOrder(20, 4, 1, 0)) == list(EpochOrder(20, 4, 1, 0)) != list(EpochOrder(20, 4, 1, 1))


def test_an_empty_split_is_one_line():
    with pytest.raises(InputError, match="no images to learn from"):
        EpochOrder(0, 4, 1, 0)


def test_mixed_seeds_do_not_collide_where_sums_would():
    digits = range(10)
    seeds = {mixed_seed(a, b, c) for a in digits for b in digits for c in digits} | {
        mixed_seed(a, b) for a in digits for b in digits
    }
    assert len(seeds) == 1100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mixed_seed(1, 2) == mixed_seed(1, 2) != mixed_seed(2, 1)


def collect(samples, trees, settings, workers=0, start=0):
    views = TrainingViews(samples, trees, settings, seed=0, height_scale=2.0)
    order = EpochOrder(len(samples), settings.pretrain.batch, 2, 0, start)
    return [tuple(parts.values()) for parts in batches(views, order, workers, CPU)]


def test_shapes_and_types_of_a_batch(dataset, settings):
    samples, trees = dataset
    images, labels, distances = collect(samples, trees, settings)[0]
    assert (images.shape, images.dtype) == ((2, 4, 3, 32, 32), torch.uint8)
    assert (labels.shape, labels.dtype) == ((2, 4, 8, 8), torch.uint8)
    assert (distances.shape, distances.dtype) == ((4, 4, 4), torch.float32)


def test_batches_do_not_depend_on_the_number_of_workers(dataset, settings):
    samples, trees = dataset
    alone, helped = collect(samples, trees, settings), collect(samples, trees, settings, workers=2)
    assert len(alone) == len(helped) == 4
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_batches_from_a_later_step_are_the_tail(dataset, settings):
    samples, trees = dataset
    whole, tail = collect(samples, trees, settings), collect(samples, trees, settings, start=3)
    assert len(tail) == 1
    assert all(torch.equal(a, b) for a, b in zip(whole[3], tail[0], strict=True))


def test_loading_neither_reads_nor_changes_the_global_random_state(dataset, settings):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    collect(*dataset, settings)
    assert torch.equal(torch.get_rng_state(), state)


def test_keeping_images_in_memory_changes_nothing(dataset, tiny):
    kept, read = collect(*dataset, tiny({"data.keep_in_memory": True})), collect(*dataset, tiny())
    for one, other in zip(kept, read, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_image_has_new_views_in_every_epoch(dataset, settings):
    views = TrainingViews(*dataset, settings, seed=0, height_scale=1.0)
    assert torch.equal(views[0, 0]["images"], views[0, 0]["images"])
    assert not torch.equal(views[0, 0]["images"], views[1, 0]["images"])
    other = TrainingViews(*dataset, settings, seed=1, height_scale=1.0)
    assert not torch.equal(views[0, 0]["images"], other[0, 0]["images"])


def test_labels_belong_to_their_image(dataset, tiny):
    still = {f"augment.{name}": 0 for name in ("brightness", "contrast", "saturation", "hue")}
    for images, labels, _ in collect(*dataset, tiny(still)):
        pixels = images[..., 2::4, 2::4].movedim(2, -1).unsqueeze(-2).float()
        seen = (pixels - torch.from_numpy(COLOURS).float()).square().sum(-1).argmin(-1)
        assert (seen == labels).float().mean() > 0.9


def test_distances_are_the_trees_in_the_height_unit_and_padded_with_zeros(dataset, tiny):
    own = torch.tensor([[0, 0.75, 0.75], [0.75, 0, 0.25], [0.75, 0.25, 0]])
    for unit, factor in (("raw", 1.0), ("auto", 2.0), (4.0, 4.0)):
        distances = collect(*dataset, tiny({"sampling.height_unit": unit}))[0][2]
        torch.testing.assert_close(distances[:, :3, :3], (own * factor).expand(4, 3, 3))
        assert (distances[:, 3] == 0).all() and (distances[:, :, 3] == 0).all()


def test_without_trees_labels_and_distances_are_zeros(dataset, settings):
    _, labels, distances = collect(dataset[0], None, settings)[0]
    assert not labels.any() and not distances.any()


def test_a_tree_grown_at_another_size_is_brought_to_the_images(dataset, tiny):
    """Pretraining images may be resized when read (`short_side`): the labels then follow."""
    settings = tiny({"data.short_side": 80})
    view = TrainingViews(*dataset, settings, seed=0, height_scale=1.0)
    image, labels, _ = view._read(0)
    assert image.shape == (3, 80, 96) and labels.shape == (80, 96)
    assert torch.equal(labels, torch.from_numpy(three_regions(80, 96).labels))


@pytest.mark.parametrize("tree, short_side", [
    ((10, 10), None), ((48, 40), None), ((20, 24), None), ((48, 40), 80), ((40, 60), 80), ((10, 10), 80),
])  # fmt: skip
def test_a_tree_of_another_image_is_refused_and_named(dataset, tiny, tree, short_side):
    """Images have 40 x 48 pixels; resized, a tree of the same aspect is theirs."""
    samples, trees = dataset
    three_regions(*tree).save(trees / f"{samples.names[0]}.npz")
    views = TrainingViews(samples, trees, tiny({"data.short_side": short_side}), seed=0, height_scale=1.0)
    with pytest.raises(
        InputError, match=r"0\.npz: .*another image; delete the tree and group again"
    ) as caught:
        views[0, 0]
    assert f"{tree[1]}x{tree[0]} pixels" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(375, 500), (501, 333), (101, 999), (33, 50)])
def test_a_tree_fits_its_image_however_that_is_resized_when_read(tmp_path, tiny, size):
    height, width = size
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(tmp_path / "a.jpg")
    three_regions(height, width).save(tmp_path / "a.npz")
    samples = Samples(("a",), (tmp_path / "a.jpg",))
    for short_side in (None, 20, 37, 160):
        settings = tiny({"data.short_side": short_side})
        image, labels, _ = TrainingViews(samples, tmp_path, settings, seed=0, height_scale=1.0)._read(0)
        assert image.shape[1:] == labels.shape


def test_images_of_different_sizes_and_numbers_of_regions_share_a_batch(tmp_path, settings):
    for name, tree in (("a", three_regions(40, 48)), ("b", one_region(50, 33))):
        Image.fromarray(np.full((*tree.labels.shape, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
        tree.save(tmp_path / f"{name}.npz")
    samples = Samples(("a", "b"), (tmp_path / "a.png", tmp_path / "b.png"))
    images, _, distances = collect(samples, tmp_path, settings)[0]
    assert images.shape == (2, 2, 3, 32, 32)
    assert sorted(distances.amax((1, 2)).tolist()) == [0.0, 0.75]


def test_a_tree_of_more_regions_than_the_settings_allow_is_named(dataset, tiny):
    with pytest.raises(InputError, match=r"0\.npz: 3 regions, but grouping.max_regions is 2"):
        TrainingViews(*dataset, tiny({"grouping.max_regions": 2}), seed=0, height_scale=1.0)[0, 0]


def test_a_missing_tree_is_named(dataset, settings, tmp_path):
    with pytest.raises(InputError, match=r"toy/0\.npz"):
        TrainingViews(dataset[0], tmp_path / "elsewhere", settings, seed=0, height_scale=1.0)[0, 0]


def test_the_papers_reading_trains_and_rivals_still_augment_both_views(dataset, tiny, tmp_path):
    both = tiny({"sampling.anchor_choice": "random"})
    settings = tiny({"augment.views": "one", "sampling.anchor_choice": "random"})
    for method, in_both in (("hierarchical", False), ("moco", True), ("hierarchical-image", True)):
        job, plain = (job_of(dataset, own, tmp_path / "a.pt", method=method) for own in (settings, both))
        assert (job.identity == plain.identity) == in_both
        loop = TrainingLoop(job, torch.device("cpu"))
        batch = next(batches(loop.views, loop.order, 0, torch.device("cpu")))
        assert ("same_pixels" in batch) == (not in_both)
        assert loop.state.train_step(loop.loss, batch).isfinite()


def test_positives_stay_in_the_anchors_region_as_often_as_p_self_says():
    """Counted over many draws, in two views of a tree's own image."""
    tree, settings = three_regions(64, 64), SamplingSettings(anchors=3, positives=5, height_unit="raw")
    image, regions = torch.zeros(3, 64, 64, dtype=torch.uint8), torch.from_numpy(tree.labels)
    _, labels = TwoViews(AugmentSettings(crop_size=64, crop_area=(0.5, 1.0)))(image, regions, seed=0)
    flat, distances = labels.flatten().long(), torch.from_numpy(tree.distances())
    present = torch.stack([torch.bincount(view.flatten(), minlength=3) > 0 for view in labels])
    p_self = positive_probability(distances.expand(2, 3, 3), settings.sigma_p, present)
    own, expected = [], []
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        sample = sample_pixels(labels[:, None], distances[None], settings, 0, generator)
        anchors = flat[sample.anchors[0]]
        valid = sample.positives_valid[0].view(3, 2, 5)  # anchors, views, draws
        same = flat[sample.positives[0]].view(3, 2, 5) == anchors.view(3, 1, 1)
        own.append(same[valid].double().mean())
        expected.append(p_self[:, anchors, anchors].T[valid[..., 0]].mean())
    assert abs(np.mean(own) - np.mean(expected)) < 0.02
