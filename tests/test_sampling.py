"""What is drawn by equations 2 and 3: counted, in closed form, and against slow loops."""

import numpy as np
import pytest
import torch
from conftest import three_regions
from equations import FOUR, SIGMA, equation_2, equation_3
from scipy.stats import chisquare

from hgrl.core.settings import AugmentSettings, SamplingSettings
from hgrl.sampling.augment import TwoViews
from hgrl.sampling.pixels import sample_pixels

# 3x6 cells, regions 0 to 3
QUARTERS = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1], [2, 2, 3, 3, 3, 3]])


def draw(labels, distances=FOUR, cns=0, seed=0, **changes):
    """A sample of (V, B, h, w) labels; one distance matrix serves every image."""
    labels = torch.as_tensor(labels)
    distances = torch.as_tensor(distances)
    if distances.dim() == 2:
        distances = distances.expand(labels.shape[1], -1, -1)
    settings = SamplingSettings(**{"sigma_p": SIGMA, **changes})
    return sample_pixels(labels, distances, settings, cns, torch.Generator().manual_seed(seed))


def both_views(*images):
    return torch.stack([torch.stack([torch.as_tensor(image) for image in images])] * 2)


def place(index, labels):
    """(view, image, row, column) of indices into the V * B * h * w cells."""
    return np.unravel_index(index.numpy(), labels.shape)


def counts(values, length):
    return torch.bincount(values.flatten(), minlength=length).double().numpy()


def test_drawn_frequencies_follow_the_equations():
    labels = both_views(QUARTERS)
    sample = draw(labels, anchors=4, positives=20_000, negatives=20_000)
    everything = (1, 1, 1, 1)
    for slot in range(4):
        a = labels.flatten()[sample.anchors[0, slot]].item()
        for drawn, slow in ((sample.positives, equation_2), (sample.negatives, equation_3)):
            for half in drawn[0, slot].chunk(2):  # first view, augmented view
                observed = counts(labels.flatten()[half], 4)
                expected = np.array(slow(FOUR.tolist(), a, everything, SIGMA)) * 20_000
                assert (observed[expected == 0] == 0).all()
                assert (
                    chisquare(observed[expected > 0], expected[expected > 0], sum_check=False).pvalue > 1e-3
                )


def test_within_a_region_every_cell_is_equally_likely():
    labels = both_views(QUARTERS)
    sample = draw(labels, anchors=4, positives=20_000)
    drawn = sample.positives[0].flatten()
    drawn = drawn[(drawn < QUARTERS.numel()) & (labels.flatten()[drawn] == 1)]
    cells = counts(drawn, QUARTERS.numel())[QUARTERS.flatten().numpy() == 1]
    assert chisquare(cells).pvalue > 1e-3


def test_a_region_that_a_crop_has_lost_is_never_drawn_from_that_view():
    augmented = torch.where(QUARTERS == 2, 0, QUARTERS)  # region 2 is out of the second view
    labels = torch.stack([QUARTERS, augmented]).unsqueeze(1)
    sample = draw(labels, anchors=4, positives=10_000, negatives=10_000)
    for drawn in (sample.positives, sample.negatives):
        first, second = drawn.chunk(2, -1)
        assert set(labels.flatten()[first].unique().tolist()) == {0, 1, 2, 3}
        kept = sample.anchors_valid & (labels.flatten()[sample.anchors] != 2)
        assert set(labels.flatten()[second][kept].unique().tolist()) == {0, 1, 3}
        assert (place(first, labels)[0] == 0).all() and (place(second, labels)[0] == 1).all()


def test_where_the_augmented_view_has_lost_the_anchors_region_its_positives_do_not_count():
    augmented = torch.where(QUARTERS == 2, 0, QUARTERS)
    labels = torch.stack([QUARTERS, augmented]).unsqueeze(1)
    sample = draw(labels, anchors=4, positives=6, negatives=6)
    lost = labels.flatten()[sample.anchors] == 2
    assert lost.sum() == 1
    first, second = sample.positives_valid.chunk(2, -1)
    assert first.all() and not second[lost].any() and second[~lost].all()
    assert sample.negatives_valid.all()


def test_a_row_of_visible_regions_far_from_a_lost_one_still_follows_the_equations():
    augmented = torch.where(QUARTERS == 1, 0, QUARTERS)
    labels = torch.stack([QUARTERS, augmented]).unsqueeze(1)
    sample = draw(labels, anchors=4, positives=20_000)
    slot = (labels.flatten()[sample.anchors[0]] == 0).nonzero().item()
    second = sample.positives[0, slot].chunk(2)[1]
    expected = np.array(equation_2(FOUR.tolist(), 0, (1, 0, 1, 1), SIGMA)) * 20_000
    observed = counts(labels.flatten()[second], 4)
    assert observed[1] == 0
    assert chisquare(observed[[0, 2, 3]], expected[[0, 2, 3]], sum_check=False).pvalue > 1e-3


def test_anchors_are_of_different_regions_of_the_first_view():
    labels = both_views(QUARTERS, QUARTERS)
    for seed in range(50):
        sample = draw(labels, anchors=3, seed=seed)
        view, image, _, _ = place(sample.anchors, labels)
        assert (view == 0).all() and (image == [[0] * 3, [1] * 3]).all()
        for row in labels.flatten()[sample.anchors]:
            assert len(row.unique()) == 3
        assert sample.anchors_valid.all()


def test_every_region_is_equally_often_an_anchor():
    labels = both_views(*[QUARTERS] * 2000)
    sample = draw(labels, anchors=1, positives=1, negatives=1)
    assert chisquare(counts(labels.flatten()[sample.anchors], 4)).pvalue > 1e-3


def test_regions_that_both_views_show_come_first_as_anchors():
    augmented = torch.where(QUARTERS == 2, 0, QUARTERS)
    labels = torch.stack([QUARTERS, augmented]).unsqueeze(1)
    for seed in range(50):
        regions = labels.flatten()[draw(labels, anchors=3, seed=seed).anchors]
        assert set(regions.flatten().tolist()) == {0, 1, 3}


def test_an_image_with_fewer_regions_has_fewer_anchors():
    labels = both_views(QUARTERS, torch.where(QUARTERS > 1, 1, QUARTERS))
    sample = draw(labels, anchors=7, positives=2, negatives=2)
    assert sample.anchors_valid.sum(-1).tolist() == [4, 2]
    for valid in (sample.positives_valid, sample.negatives_valid):
        assert (valid.all(-1) == sample.anchors_valid).all() and (valid.any(-1) == sample.anchors_valid).all()


def test_an_image_of_one_region_has_no_negatives_of_its_own():
    labels = both_views(torch.zeros(3, 4, dtype=torch.int64), QUARTERS[:, :4])
    sample = draw(labels, cns=3, negatives=5)
    own, others = sample.negatives_valid[0].split([10, 3], -1)
    assert sample.anchors_valid[0].sum() == 1
    assert not own.any() and others[sample.anchors_valid[0]].all()
    assert sample.positives_valid[0][sample.anchors_valid[0]].all()


def test_a_batch_of_one_has_no_negatives_from_other_images():
    sample = draw(both_views(QUARTERS), cns=4)
    own, others = sample.negatives_valid.split([10, 4], -1)
    assert own[sample.anchors_valid].all() and not others.any()


def test_cross_image_negatives_are_evenly_from_every_cell_of_the_other_images():
    labels = both_views(*[QUARTERS] * 3)
    sample = draw(labels, cns=4000, anchors=2, positives=1, negatives=0)
    view, image, row, column = place(sample.negatives, labels)
    assert sample.negatives_valid.all()
    for b in range(3):
        assert set(np.unique(image[b])) == {0, 1, 2} - {b}
    for values in (view, image, row, column):
        assert chisquare(np.unique(values, return_counts=True)[1]).pvalue > 1e-3


def test_own_samples_stay_in_their_own_image_and_no_index_is_out_of_range():
    labels = both_views(QUARTERS, QUARTERS.flip(0), QUARTERS.flip(1))
    sample = draw(labels, cns=3)
    for drawn in (sample.positives, sample.negatives[..., :10]):
        assert (place(drawn, labels)[1] == np.arange(3)[:, None, None]).all()
    for drawn in (sample.anchors, sample.positives, sample.negatives):
        assert drawn.min() >= 0 and drawn.max() < labels.numel()


def test_padding_is_never_drawn_whatever_it_holds():
    padded = torch.full((1, 9, 9), torch.nan)
    padded[:, :4, :4] = FOUR
    labels = both_views(QUARTERS)
    sample = draw(labels, padded, positives=5000, negatives=5000)
    assert sample.anchors_valid.sum() == 4
    plain = draw(labels, positives=5000, negatives=5000)
    for slot in range(4):
        a = labels.flatten()[sample.anchors[0, slot]]
        same = (labels.flatten()[plain.anchors[0]] == a).nonzero().item()
        for one, other in (
            (sample.positives[0, slot], plain.positives[0, same]),
            (sample.negatives[0, slot], plain.negatives[0, same]),
        ):
            share = [counts(labels.flatten()[drawn], 4) / 10_000 for drawn in (one, other)]
            np.testing.assert_allclose(share[0], share[1], atol=0.03)


def test_images_of_a_batch_do_not_touch_one_another():
    """Moving an image to another place of the batch moves its distribution with it."""
    near, far = FOUR, FOUR * 10
    flipped = QUARTERS.flip(1)
    one = draw(both_views(QUARTERS, flipped), torch.stack([near, far]), anchors=4, positives=10_000)
    other = draw(both_views(flipped, QUARTERS), torch.stack([far, near]), anchors=4, positives=10_000, seed=1)
    tables = []
    for sample, labels in ((one, both_views(QUARTERS, flipped)), (other, both_views(flipped, QUARTERS))):
        table = np.zeros((2, 4, 4))
        for b in range(2):
            for slot in range(4):
                table[b, labels.flatten()[sample.anchors[b, slot]]] = (
                    counts(labels.flatten()[sample.positives[b, slot]], 4) / 20_000
                )
        tables.append(table)
    np.testing.assert_allclose(tables[0], tables[1][::-1], atol=0.02)
    assert abs(tables[0][0] - tables[0][1]).max() > 0.3


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    labels = both_views(QUARTERS, QUARTERS)
    first, again, other = (draw(labels, cns=5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.negatives, again.negatives) and torch.equal(first.positives, again.positives)
    assert not torch.equal(first.negatives, other.negatives)


def test_labels_may_be_uint8_as_the_loader_gives_them():
    labels = both_views(QUARTERS)
    assert torch.equal(draw(labels.to(torch.uint8)).positives, draw(labels).positives)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_drawn_cell_shows_its_region_after_crop_flip_and_resize(flip):
    """Each region has its own colour: the pixels at a drawn cell must have the colour of the region that was
    meant."""
    tree = three_regions()
    colours = torch.tensor([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=torch.uint8)
    labels = torch.from_numpy(tree.labels)
    image = colours[labels.long()].permute(2, 0, 1)
    settings = AugmentSettings(
        crop_size=32, crop_area=(0.3, 0.8), flip=flip, brightness=0, contrast=0, saturation=0, hue=0
    )
    for seed in range(10):
        images, cells = TwoViews(settings)(image, labels, seed)
        sample = draw(
            cells.unsqueeze(1), torch.from_numpy(tree.distances()), negatives=40, positives=40, seed=seed
        )
        seen = images[..., 2::4, 2::4].argmax(1).flatten()  # the strongest channel is the region
        meant = cells.flatten().long()
        for drawn, valid in (
            (sample.positives, sample.positives_valid),
            (sample.negatives, sample.negatives_valid),
        ):
            agree = (seen[drawn] == meant[drawn])[valid]
            assert agree.float().mean() > 0.9  # an antialiased pixel on a boundary may have either colour
        anchor = meant[sample.anchors]
        own_negatives = (meant[sample.negatives] == anchor.unsqueeze(-1)) & sample.negatives_valid
        assert not own_negatives.any()


# The paper's own reading, of anchors and of the augmented view


def test_random_anchors_are_evenly_of_the_first_views_regions_whatever_the_other_shows():
    labels = (
        torch.stack([QUARTERS, torch.where(QUARTERS == 2, 0, QUARTERS)]).unsqueeze(1).expand(-1, 2000, -1, -1)
    )
    sample = draw(labels, anchors=1, positives=1, negatives=1, anchor_choice="random")
    assert chisquare(counts(labels.flatten()[sample.anchors], 4)).pvalue > 1e-3
    visible = draw(labels, anchors=1, positives=1, negatives=1)
    assert 2 not in labels.flatten()[visible.anchors]


def test_the_same_pixels_in_both_views_equal_a_slow_loop():
    """Each drawn cell of the first view is looked up by itself; what is not seen does not count."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.stack(
        [torch.stack([QUARTERS, QUARTERS.flip(0)]), torch.randint(4, (2, 3, 6), generator=generator)]
    )
    cells = QUARTERS.numel()
    same = torch.randint(-1, cells, (2, cells), generator=generator)
    settings = SamplingSettings(sigma_p=SIGMA, anchors=3, positives=40, negatives=30)
    given = labels, FOUR.expand(2, -1, -1), settings, 6
    sample = sample_pixels(*given, torch.Generator().manual_seed(1), same_pixels=same)
    for drawn, valid, count in (
        (sample.positives, sample.positives_valid, 40),
        (sample.negatives[..., :60], sample.negatives_valid, 30),
    ):
        for b in range(2):
            for slot in range(3):
                for k in range(count):
                    first = drawn[b, slot, k].item()
                    assert b * cells <= first < (b + 1) * cells
                    seen = same[b, first - b * cells].item()
                    assert valid[b, slot, count + k] == (bool(valid[b, slot, k]) and seen >= 0)
                    if seen >= 0:
                        assert drawn[b, slot, count + k] == (2 + b) * cells + seen
    others = draw(labels, anchors=3, positives=40, negatives=30, cns=6, seed=1)
    assert torch.equal(sample.anchors, others.anchors)
    assert torch.equal(sample.positives[..., :40], others.positives[..., :40])  # the first view's own draws
    assert sample.negatives.shape == others.negatives.shape
