"""The network of section 4.2: torchvision's stages, a hypercolumn at a quarter of the input, 32 channels
out."""

import pytest
import torch
import torchvision

from hgrl.core.errors import InputError
from hgrl.core.settings import NetworkSettings
from hgrl.data.normalise import MEAN, STD, normalise
from hgrl.pretraining.network import STRIDES, Backbone, Network

NAMES = ["resnet18", "resnet34", "resnet50"]


def torchvisions(name):
    """The state of torchvision's own network, with its stages named as ours are."""
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    return {as_ours(key): value for key, value in state.items() if not key.startswith("fc.")}


def as_ours(key):
    """torchvision's "layer2.0.conv1.weight" is our "stages.1.0.conv1.weight"."""
    return f"stages.{int(key[5]) - 1}{key[6:]}" if key.startswith("layer") else key


@pytest.mark.parametrize("stages", [1, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_at_width_64_the_backbone_is_torchvisions_cut_off(name, stages):
    with torch.device("meta"):
        ours = Backbone(name, 64, stages).state_dict()
    theirs = {
        key: value
        for key, value in torchvisions(name).items()
        if not key.startswith("stages.") or int(key[7]) < stages
    }
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


def test_with_torchvisions_weights_the_stages_are_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    ours = Backbone("resnet18", 64, 4).eval()
    ours.load_state_dict(
        {as_ours(key): value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    )
    images = torch.randn(1, 3, 64, 96)
    expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
    for stage, output in zip(
        (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), ours(images), strict=True
    ):
        expected = stage(expected)
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("name, channels", [("resnet18", 256), ("resnet34", 256), ("resnet50", 1024)])
def test_the_papers_shapes_for_224_pixels(name, channels):
    with torch.device("meta"):
        network = Network(NetworkSettings(backbone=name)).eval()
        images = torch.empty(1, 3, 224, 224)
        stages = network.backbone(images)
        backbone, joined, hypercolumn, embedding = network.features(images, *STRIDES)
    assert [stage.shape[-1] for stage in stages] == [56, 28, 14]  # strides 4, 8, 16: unchanged
    assert backbone.shape == (1, channels, 14, 14)
    assert joined.shape == (1, channels // 2 + channels, 28, 28)
    assert hypercolumn.shape == (1, 2 * 256, 56, 56)
    assert embedding.shape == (1, 32, 56, 56)
    widths = {"backbone": channels, "stages": channels // 2 + channels, "hypercolumn": 512, "embedding": 32}
    assert network.channels == widths


def test_parameters_of_the_papers_network():
    """ResNet-50 up to Res4, two 3x3 projections (of 512 and 1024 channels) to 256 with their BN, one 3x3 from
    512 to 32."""
    with torch.device("meta"):
        network = Network(NetworkSettings())
        whole = torchvision.models.resnet50()
    backbone = sum(p.numel() for name, p in whole.named_parameters() if not name.startswith(("layer4", "fc")))
    head = 9 * 512 * 256 + 2 * 256 + 9 * 1024 * 256 + 2 * 256 + 9 * 512 * 32 + 32
    assert sum(p.numel() for p in network.parameters()) == backbone + head


def test_the_projections_are_conv_bn_relu_and_the_last_convolution_is_bare():
    network = Network(NetworkSettings(backbone="resnet18", width=8, hypercolumn_channels=8)).eval()
    hypercolumn, embedding = network.features(torch.randn(1, 3, 32, 32), "hypercolumn", "embedding")
    assert [
        [type(layer).__name__ for layer in projection] for projection in network.hypercolumn.projections
    ] == [["Conv2d", "BatchNorm2d", "ReLU"]] * 2
    assert (hypercolumn >= 0).all() and (embedding < 0).any()
    assert network.embedding.kernel_size == (3, 3) and isinstance(network.embedding, torch.nn.Conv2d)


@pytest.mark.parametrize("sides", [(64, 96), (50, 70)])
def test_stages_are_res3_and_res4_on_res3s_grid_and_need_no_hypercolumn(sides):
    network = Network(NetworkSettings(backbone="resnet18", width=8, hypercolumn_channels=4)).eval()
    images = torch.randn(2, 3, *sides)
    _, res3, res4 = network.backbone(images)
    network.hypercolumn.projections = None
    (joined,) = network.features(images, "stages")
    finer = torch.nn.functional.interpolate(res4, size=res3.shape[-2:], mode="bilinear", align_corners=False)
    assert torch.equal(joined[:, :16], res3)
    torch.testing.assert_close(joined[:, 16:], finer)


def test_res3_and_res4_are_what_the_hypercolumn_reads():
    network = Network(NetworkSettings(backbone="resnet18", width=8, hypercolumn_channels=4)).eval()
    stages = network.backbone(torch.randn(1, 3, 64, 64))
    assert len(stages) == 3  # Res5 is not built
    expected = []
    for stage, projection in zip(stages[1:], network.hypercolumn.projections, strict=True):
        expected.append(
            torch.nn.functional.interpolate(projection(stage), (16, 16), mode="bilinear", align_corners=False)
        )
    torch.testing.assert_close(network.hypercolumn(stages), torch.cat(expected, 1))
    stages[0] = torch.zeros_like(stages[0])  # Res2 gives the size alone
    torch.testing.assert_close(network.hypercolumn(stages), torch.cat(expected, 1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_without_its_last_stride_the_backbone_has_the_same_weights_and_everything_else(name):
    """Every second cell of a 1x1 convolution without stride is the strided one's: so is the whole stage's, if
    its 3x3 convolutions read their middle alone."""
    torch.manual_seed(0)
    backbone = Backbone(name, 8, 3).eval()
    for layer in backbone.stages[2].modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            middle = torch.zeros(3, 3)
            middle[1, 1] = 1
            layer.weight.data *= middle
    images = torch.randn(1, 3, 64, 96)
    strided = backbone(images)
    with backbone.last_stride_out():
        dense = backbone(images)
    assert [stage.shape[-2:] for stage in dense] == [(16, 24), (8, 12), (8, 12)]
    torch.testing.assert_close(dense[2][..., ::2, ::2], strided[2])
    for before, now, after in zip(strided[:2], dense[:2], backbone(images)[:2], strict=True):
        assert torch.equal(before, now) and torch.equal(before, after)
    assert torch.equal(backbone(images)[2], strided[2])  # the stride is back


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 1), (100, 7)])
def test_any_size_of_image_has_a_map_of_a_quarter_rounded_up(size, settings):
    embedding = Network(settings.network).eval()(torch.zeros(1, 3, *size))
    assert embedding.shape[-2:] == tuple(-(-side // 4) for side in size)


def test_layers_come_in_the_order_asked_for_and_equal_the_forward_pass(settings):
    network = Network(settings.network).eval()
    images = torch.randn(2, 3, 32, 32)
    embedding, backbone = network.features(images, "embedding", "backbone")
    torch.testing.assert_close(embedding, network(images))
    torch.testing.assert_close(backbone, network.backbone(images)[-1])
    assert network.channels["backbone"] == backbone.shape[1]


def test_an_unknown_layer_is_named(settings):
    with pytest.raises(
        InputError, match="'layer': 'res9' is not one of backbone, stages, hypercolumn, embedding"
    ):
        Network(settings.network).features(torch.zeros(1, 3, 32, 32), "res9")


def test_every_parameter_has_a_gradient(settings):
    network = Network(settings.network)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_fresh_weights_follow_the_global_seed(settings):
    def fresh(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in Network(settings.network).parameters()])

    assert torch.equal(fresh(0), fresh(0))
    assert not torch.equal(fresh(0), fresh(1))


def test_normalising():
    grey = torch.tensor(MEAN).view(1, 3, 1, 1) * 255
    torch.testing.assert_close(normalise(grey), torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)
    white = normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, :, 0, 0], (1 - torch.tensor(MEAN)) / torch.tensor(STD))
    assert white.dtype == torch.float32
