"""Two views: the labels go where the pixels go, and a seed fixes both."""

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import adjust_hue

from hgrl.core.settings import AugmentSettings
from hgrl.sampling.augment import ColorJitter, ImageAndView, TwoViews, turned_hue

GEOMETRY_ONLY = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}


def blocks(height=60, width=90):
    """Labels of 1x3 stripes, and the image that paints each stripe in its own channel."""
    labels = (torch.arange(width) * 3 // width).expand(height, width)
    return 255 * torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1).contiguous().to(
        torch.uint8
    ), labels.to(torch.uint8)


def checks(height, width):
    """Labels of 2x3 blocks, and an "image" of six channels, one for each block: the strongest channel is the
    label, blended or not."""
    labels = (torch.arange(height) * 2 // height)[:, None] * 3 + (torch.arange(width) * 3 // width)[None]
    return 255 * torch.nn.functional.one_hot(labels, 6).permute(2, 0, 1).contiguous().to(
        torch.uint8
    ), labels.to(torch.uint8)


def inside(labels):
    """Cells whose 3x3 neighbours are all of one region: there an antialiased image has one colour."""
    padded = torch.nn.functional.pad(labels[None].float(), (1, 1, 1, 1), mode="replicate")[0]
    windows = padded.unfold(0, 3, 1).unfold(1, 3, 1).flatten(2)
    return (windows == windows[..., :1]).all(-1)


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
# the crop is larger, smaller, and of another shape
@pytest.mark.parametrize("size", [(60, 90), (33, 31), (200, 120)])
def test_labels_follow_the_images_geometry(size, flip):
    image, labels = checks(*size)
    views = TwoViews(AugmentSettings(crop_size=64, crop_area=(0.1, 1.0), flip=flip, **GEOMETRY_ONLY), grid=1)
    for seed in range(8):
        images, crops = views(image, labels, seed)
        for view, crop in zip(images, crops, strict=True):
            clear = inside(crop)
            assert clear.float().mean() > 0.4
            assert (view.argmax(0) == crop)[clear].all()


def test_a_certain_flip_mirrors_pixels_and_labels_alike():
    image, labels = blocks()
    for seed in range(5):
        plain, mirrored = (
            TwoViews(AugmentSettings(crop_size=64, flip=flip, **GEOMETRY_ONLY), grid=1)(image, labels, seed)
            for flip in (0.0, 1.0)
        )
        # the first view: the second one's crop is drawn later
        assert torch.equal(plain[0][0].flip(-1), mirrored[0][0])
        assert torch.equal(plain[1][0].flip(-1), mirrored[1][0])


def test_labels_are_read_at_the_centre_of_each_cell():
    image, labels = blocks()
    for seed in range(3):
        fine = TwoViews(AugmentSettings(crop_size=32), grid=1)(image, labels, seed)[1]
        coarse = TwoViews(AugmentSettings(crop_size=32), grid=4)(image, labels, seed)[1]
        assert coarse.shape == (2, 8, 8)
        for row in range(8):
            for column in range(8):
                assert torch.equal(coarse[:, row, column], fine[:, 4 * row + 2, 4 * column + 2])


def test_the_whole_image_uncropped_is_itself():
    image, labels = blocks(64, 64)
    views = TwoViews(AugmentSettings(crop_size=64, crop_area=(1.0, 1.0), flip=0.0, **GEOMETRY_ONLY), grid=1)
    views.transform.transforms[0].ratio = (1.0, 1.0)
    images, crops = views(image, labels, 0)
    assert torch.equal(images, image.expand(2, -1, -1, -1)) and torch.equal(crops, labels.expand(2, -1, -1))


def test_shapes_and_types():
    images, crops = TwoViews(AugmentSettings(crop_size=32))(*blocks(), seed=0)
    assert (images.shape, images.dtype, type(images)) == ((2, 3, 32, 32), torch.uint8, torch.Tensor)
    assert (crops.shape, crops.dtype, type(crops)) == ((2, 8, 8), torch.uint8, torch.Tensor)


def test_a_seed_fixes_both_views_and_the_two_differ():
    image, labels = blocks()
    image = torch.randint(256, image.shape, dtype=torch.uint8)
    views = TwoViews(AugmentSettings(crop_size=32))
    first, again, other = (views(image, labels, seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][1])


def test_the_global_random_state_is_neither_read_nor_changed():
    views, (image, labels) = TwoViews(AugmentSettings(crop_size=32)), blocks()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = views(image, labels, 1)[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(views(image, labels, 1)[0], first)


def test_colour_jitter_changes_pixels_and_never_labels():
    image, labels = blocks()
    jittered, plain = (
        TwoViews(AugmentSettings(crop_size=32, **strength))(image, labels, 3)
        for strength in ({}, GEOMETRY_ONLY)
    )
    assert torch.equal(jittered[1][0], plain[1][0])
    assert not torch.equal(jittered[0][0], plain[0][0])


def noise(size=64, seed=0):
    shape, generator = (3, size, size), torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def share_of_views(condition, **settings):
    """Of 200 views of an image, those that `condition` holds for."""
    views = TwoViews(AugmentSettings(crop_size=16, **settings))
    image, labels = noise(16), torch.zeros(16, 16, dtype=torch.uint8)
    found = [condition(view) for seed in range(100) for view in views(image, labels, seed)[0]]
    return sum(found) / len(found)


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_views_are_grey_as_often_as_asked(p):
    def grey(view):
        return torch.equal(view[0], view[1]) and torch.equal(view[1], view[2])

    assert share_of_views(grey, greyscale=p) == pytest.approx(p, abs=0.1 if 0 < p < 1 else 0)


@pytest.mark.parametrize("p", [0.0, 0.8, 1.0])
def test_colours_are_jittered_as_often_as_asked(p):
    """Of an image of one colour a crop has the same: all that changes it is the jitter."""
    flat, labels = torch.full((3, 16, 16), 90, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.uint8)
    flat[0] = 200
    views = TwoViews(AugmentSettings(crop_size=16, jitter=p))
    changed = [not torch.equal(view, flat) for seed in range(100) for view in views(flat, labels, seed)[0]]
    assert sum(changed) / len(changed) == pytest.approx(p, abs=0.1 if 0 < p < 1 else 0)


def test_views_are_blurred_as_often_as_asked_and_as_scipy_would(monkeypatch):
    image, labels = noise(224), torch.zeros(224, 224, dtype=torch.uint8)
    monkeypatch.setattr("hgrl.sampling.augment.BLUR", (1.5, 1.5))
    views = [TwoViews(AugmentSettings(crop_size=224, jitter=0, blur=p)) for p in (0.0, 0.5, 1.0)]
    sharp, sometimes, always = ([view(image, labels, seed)[0][0] for seed in range(20)] for view in views)
    # the crop and the flip are drawn before, and alike
    for plain, blurred in zip(sharp, always, strict=True):
        expected = gaussian_filter(plain.double().numpy(), (0, 1.5, 1.5), mode="mirror")
        assert abs(expected - blurred.numpy()).max() <= 1.5
    kept = [torch.equal(one, other) for one, other in zip(sharp, sometimes, strict=True)]
    assert 4 <= sum(kept) <= 16


@pytest.mark.parametrize("factor", [-0.4, -0.1, 0.0, 0.25, 0.5])
def test_a_turned_hue_is_torchvisions(factor):
    """To two roundings of the hue and one of the saturation: half a step of the hue is 3 levels of 256."""
    image = noise()
    expected, found = adjust_hue(image, factor).float(), turned_hue(image, factor).float()
    assert (expected - found).abs().mean() < 1 and (expected - found).abs().max() <= 12


def test_jitter_is_torchvisions_but_for_the_hues_rounding():
    image, settings = noise(), (0.4, 0.4, 0.4, 0.0)
    for seed in range(5):
        torch.manual_seed(seed)
        own = ColorJitter(*settings)(tv_tensors.Image(image))
        torch.manual_seed(seed)
        assert torch.equal(own, v2.ColorJitter(*settings)(tv_tensors.Image(image)))


def test_only_regions_that_the_crop_shows_are_in_its_labels():
    image, labels = blocks()
    views = TwoViews(AugmentSettings(crop_size=32, crop_area=(0.05, 0.1)))
    seen = [set(crop.unique().tolist()) for seed in range(20) for crop in views(image, labels, seed)[1]]
    assert all(regions <= set(range(3)) for regions in seen)
    assert min(map(len, seen)) < 3  # small crops lose regions


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_images_smaller_than_the_crop_are_enlarged(size):
    image = torch.full((3, *size), 100, dtype=torch.uint8)
    images, crops = TwoViews(AugmentSettings(crop_size=32))(image, torch.zeros(size, dtype=torch.uint8), 0)
    assert images.shape == (2, 3, 32, 32) and (crops == 0).all()


# The paper's words: the image itself and one augmented view, with the same pixels in both


@pytest.mark.parametrize("size", [(64, 64), (60, 90), (200, 120)])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_first_view_is_the_whole_image_whatever_its_aspect_ratio(size, flip):
    image, labels = checks(*size)
    images, crops, _ = ImageAndView(AugmentSettings(crop_size=64, flip=flip), grid=1)(image[:3], labels, 0)
    whole, cells = checks(64, 64)
    assert (crops[0] == cells).float().mean() > 0.97
    clear = inside(cells) & (cells < 3)
    assert (images[0].argmax(0) == whole[:3].argmax(0))[clear].all()


@pytest.mark.parametrize("flip", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(60, 90), (200, 120), (33, 31)])
def test_each_cell_is_found_where_the_view_shows_its_pixel(size, flip):
    """The oracle: labels that number the image's rows and columns tell where each pixel of the view is from,
    to half a pixel of either (torchvision's nearest neighbour is the one above and to the left). A cell's
    centre is as near to one of the named cell's pixels, and on the rim or beyond what the view shows where it
    is lost."""
    settings = AugmentSettings(crop_size=64, crop_area=(0.1, 0.6), flip=flip, **GEOMETRY_ONLY)
    image, found = torch.zeros(3, *size, dtype=torch.uint8), set()
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.uint8) for side in size), indexing="ij")
    for seed in range(8):
        shown = [ImageAndView(settings, grid=1)(image, ids, seed)[1][1].double() + 0.5 for ids in (y, x)]
        rows, columns = shown[0][:, 0], shown[1][0]
        for cell, seen in enumerate(ImageAndView(settings, grid=4)(image, y, seed)[2].tolist()):
            named = (rows, size[0], cell // 16, seen // 16), (columns, size[1], cell % 16, seen % 16)
            near, beyond = [], []
            for line, side, own, other in named:
                centre, off = (4 * own + 2) * side / 64, (line.max() - line.min()) / 63 + 0.51
                pixels = line if seen < 0 else line[4 * other : 4 * other + 4]
                near.append((pixels - centre).abs().min() <= off)
                beyond.append(centre < line.min() + off or centre > line.max() - off)
            assert any(beyond) if seen < 0 else all(near)
            found.add(seen >= 0)
    assert found == {True, False}


def test_a_flip_mirrors_the_cells_and_loses_none():
    image, labels = blocks(60, 90)
    for seed in range(8):
        plain, mirrored = (
            ImageAndView(AugmentSettings(crop_size=64, crop_area=(0.1, 1.0), flip=flip))(image, labels, seed)[
                2
            ]
            for flip in (0.0, 1.0)
        )
        column = plain % 16
        assert torch.equal(mirrored, torch.where(plain < 0, -1, plain - column + 15 - column))
