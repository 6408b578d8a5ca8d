"""One interface for networks and for baselines that learn nothing."""

import numpy as np
import pytest
import torch

from hgrl.core.errors import InputError
from hgrl.core.settings import TrackingSettings
from hgrl.data.normalise import normalise
from hgrl.evaluation.features import (
    BASELINES,
    BaselineFeatures,
    NetworkFeatures,
    dense_backbone,
    lab_angles,
    single_layer,
)
from hgrl.evaluation.tracking import reading, with_lab
from hgrl.pretraining.network import LAYERS, STRIDES, Network

CPU = torch.device("cpu")


@pytest.fixture
def images():
    return torch.randint(256, (2, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_networks_layers_are_its_own_on_normalised_images_in_evaluation_mode(settings, images):
    network = Network(settings.network)
    features = NetworkFeatures(network, CPU)
    maps = features(images, ["embedding", "backbone"])
    assert not network.training
    for own, found in zip(network.features(normalise(images), "embedding", "backbone"), maps, strict=True):
        torch.testing.assert_close(own, found)
    assert [found.dtype for found in maps] == [torch.float32] * 2


@pytest.mark.parametrize("layer", STRIDES)
def test_channels_and_strides_are_as_announced(settings, images, layer):
    features = NetworkFeatures(Network(settings.network), CPU)
    (found,) = features(images, [layer])
    assert found.shape == (2, features.channels[layer], 32 // STRIDES[layer], 48 // STRIDES[layer])


@pytest.mark.parametrize("layer", STRIDES)
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_use_the_same_grids(images, name, layer):
    features = BaselineFeatures(name)
    (found,) = features(images, [layer])
    assert found.shape == (2, features.channels[layer], 32 // STRIDES[layer], 48 // STRIDES[layer])
    assert found.dtype == torch.float32


def test_position_does_not_look_at_the_image_and_colour_does_not_look_at_the_place():
    noise = torch.randint(256, (1, 3, 32, 48), dtype=torch.uint8)
    plain = torch.full((1, 3, 32, 48), 90, dtype=torch.uint8)
    position, lab = BaselineFeatures("position"), BaselineFeatures("lab")
    assert torch.equal(position(noise, ["embedding"])[0], position(plain, ["embedding"])[0])
    (colour,) = lab(plain, ["embedding"])
    assert torch.equal(colour, colour[..., :1, :1].expand_as(colour))


@pytest.mark.parametrize("name", ["network", *BASELINES])
def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(settings, images, name):
    features = (
        NetworkFeatures(Network(settings.network), CPU) if name == "network" else BaselineFeatures(name)
    )
    with torch.no_grad():
        torch.testing.assert_close(
            features(images, ["embedding"])[0][1:],
            features(images[1:], ["embedding"])[0],
            atol=1e-5,
            rtol=1e-4,
        )


def test_a_single_layer_takes_arrays_and_keeps_no_gradient(settings, images):
    features = NetworkFeatures(Network(settings.network), CPU)
    arrays = images.permute(0, 2, 3, 1).numpy()
    found = single_layer(features, "embedding")(arrays)
    assert not found.requires_grad
    torch.testing.assert_close(found, features(images, ["embedding"])[0].detach())
    flipped = [
        single_layer(features, "embedding")(view) for view in (arrays[:, :, ::-1], np.flip(arrays, 2).copy())
    ]
    torch.testing.assert_close(*flipped)  # a view with negative strides will do


def test_an_unknown_layer_is_named(settings):
    with pytest.raises(
        InputError, match="'layer': 'logits' is not one of backbone, stages, hypercolumn, embedding"
    ):
        single_layer(NetworkFeatures(Network(settings.network), CPU), "logits")


@pytest.mark.parametrize("layer", STRIDES)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_joined_colour_has_its_share_of_every_cosine(settings, images, layer, share):
    arrays = images.permute(0, 2, 3, 1).numpy()
    own = single_layer(NetworkFeatures(Network(settings.network), CPU), layer)
    joined, features, colours = (
        with_lab(own, STRIDES[layer], share)(arrays),
        own(arrays),
        lab_angles(arrays, STRIDES[layer]),
    )
    h, w = joined.shape[2:]
    for (y, x), (v, u) in [((0, 0), (h - 1, w - 1)), ((h // 2, 0), (0, w // 2)), ((0, 0), (0, 0))]:
        f, g, c, d = features[0, :, y, x], features[0, :, v, u], colours[0, :, y, x], colours[0, :, v, u]
        expected = (1 - share) * float(f @ g / (f.norm() * g.norm())) + share * float(c @ d)
        assert float(joined[0, :, y, x] @ joined[0, :, v, u]) == pytest.approx(expected, abs=1e-5)


def test_tracking_reads_the_layer_asked_for_where_it_was_trained(settings, images):
    arrays, features = images.permute(0, 2, 3, 1).numpy(), NetworkFeatures(Network(settings.network), CPU)
    embedding, backbone = single_layer(features, "embedding")(arrays), dense_backbone(features)(arrays)
    plain = TrackingSettings(layer="embedding")
    joined = TrackingSettings(layer="embedding+lab", lab_share=0.5)
    for layers, own in ((LAYERS, embedding), (["backbone"], backbone)):
        assert torch.equal(reading(features, plain, layers).function(arrays), own)
        shape = 2, own.shape[1] + 6, *own.shape[2:]
        assert reading(features, joined, layers).function(arrays).shape == shape


def test_baselines_are_tracked_alike_whatever_is_joined_to_networks(images):
    arrays, lab = images.permute(0, 2, 3, 1).numpy(), BaselineFeatures("lab")
    plain, joined = (
        reading(lab, TrackingSettings(layer=layer), LAYERS).function(arrays)
        for layer in ("embedding", "embedding+lab")
    )
    assert torch.equal(plain, joined) and torch.equal(plain, lab_angles(arrays))
