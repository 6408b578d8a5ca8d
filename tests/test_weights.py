"""Authors' weights: files in their formats, of random values, are read; others are refused in one line."""

import argparse

import numpy as np
import pytest
import torch
import torchvision
import yaml
from conftest import SMALL_PARAMS, told
from scores import evaluate, line, small
from torch import nn

from hgrl.core import paths
from hgrl.core.experiment import READ_WEIGHTS
from hgrl.data.normalise import normalise
from hgrl.evaluation.features import NetworkFeatures, dense_backbone
from hgrl.evaluation.weights import FORMATS, DeepCluster, authors_network

RESNETS = [method for method, form in FORMATS.items() if form.network.startswith("resnet")]


def constants(shapes, seed=0):
    """A tensor for each shape that holds one random value, and takes no room in a file."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand((), generator=generator).expand(shape) for name, shape in shapes.items()}


def shapes_of(module, tracked=True):
    state = module.state_dict().items()
    return {name: value.shape for name, value in state if tracked or "tracked" not in name}


def resnet(name):
    with torch.device("meta"):
        return getattr(torchvision.models, name)(weights=None)


def theirs(network):
    """DeepCluster's model, as its repository builds it."""
    plan = [(64, 3, 1, 1)] * 2 + ["M"] + [(128, 3, 1, 1)] * 2 + ["M"] + [(256, 3, 1, 1)] * 3 + ["M"]
    plan += [(512, 3, 1, 1)] * 3 + ["M"] + [(512, 3, 1, 1)] * 3 + ["M"]
    if network == "alexnet":
        plan = [(96, 11, 4, 2), "M", (256, 5, 1, 2), "M", (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1), "M"]
    layers, channels = [], 2
    for entry in plan:
        if entry == "M":
            layers.append(nn.MaxPool2d(2, 2) if network == "vgg16" else nn.MaxPool2d(3, 2))
        else:
            layers += [nn.Conv2d(channels, *entry), nn.BatchNorm2d(entry[0]), nn.ReLU()]
            channels = entry[0]
    return nn.Sequential(*layers)


def content_of(method):
    """What the authors' file holds."""
    if method == "imagenet":
        return constants(shapes_of(resnet("resnet50")))
    if method == "moco-resnet50":
        state = constants(shapes_of(resnet("resnet50")))
        named = {f"module.encoder_q.{name}": value for name, value in state.items()}
        named |= {f"module.encoder_k.{name}": value + 1 for name, value in state.items()}
        return {"epoch": 800, "arch": "resnet50", "state_dict": named | {"module.queue": torch.zeros(128, 9)}}
    if method == "timecycle-resnet50":
        shapes = shapes_of(resnet("resnet50"), tracked=False)
        inflated = {name: (*s[:2], 1, *s[2:]) if len(s) == 4 else s for name, s in shapes.items()}
        del inflated["fc.weight"], inflated["fc.bias"]
        named = {f"module.encoderVideo.{name}": value for name, value in constants(inflated).items()}
        return {"epoch": 15, "state_dict": named | {"module.afterconv1.weight": torch.zeros(512, 4, 1, 1, 1)}}
    if method == "crw-resnet18":
        state, named = constants(shapes_of(resnet("resnet18"))), {}
        for name, value in state.items():
            if not name.startswith(("layer4", "fc")):
                padded = name.replace("conv1.weight", "conv1.1.weight").replace(
                    "conv2.weight", "conv2.1.weight"
                )
                named[f"encoder.model.{padded}"] = value
        named |= {"selfsim_fc.0.weight": torch.zeros(128, 256), "selfsim_fc.0.bias": torch.zeros(128)}
        return {"model": named, "epoch": 23, "args": argparse.Namespace(temp=0.07, remove_layers=["layer4"])}
    state = constants(shapes_of(theirs(FORMATS[method].network), tracked=False))
    named = {f"features.module.{name}": value for name, value in state.items()}
    named |= {"sobel.0.weight": torch.zeros(1, 3, 1, 1), "top_layer.bias": torch.zeros(10_000)}
    return {"epoch": 500, "arch": FORMATS[method].network, "state_dict": named}


def save(path, content):
    """As older versions of torch did where the authors had one."""
    torch.save(content, path, _use_new_zipfile_serialization="model" in content or "epoch" not in content)
    return path


def test_every_method_that_takes_a_file_has_a_format():
    assert set(FORMATS) <= set(READ_WEIGHTS)


@pytest.mark.parametrize("method", RESNETS)
def test_a_resnets_file_becomes_the_backbone(method, tmp_path):
    content, form = content_of(method), FORMATS[method]
    network = authors_network(save(tmp_path / "file.pth", content), method).backbone
    plain = constants(shapes_of(resnet(form.network), tracked=method != "timecycle-resnet50"))
    if method == "timecycle-resnet50":
        plain = {name.partition("encoderVideo.")[2]: value for name, value in content["state_dict"].items()}
        plain = {name: value.squeeze(2) if value.ndim == 5 else value for name, value in plain.items()}
    own = network.state_dict()
    for theirs_, ours in (
        ("conv1", "conv1"),
        ("layer1.0.bn2", "stages.0.0.bn2"),
        ("layer3.1.conv2", "stages.2.1.conv2"),
    ):
        assert torch.equal(own[f"{ours}.weight"], plain[f"{theirs_}.weight"]), ours
    modes = {layer.padding_mode for layer in network.modules() if isinstance(layer, nn.Conv2d)}
    assert modes == ({"zeros", "reflect"} if form.padding == "reflect" else {"zeros"})


@pytest.mark.parametrize("method", ["deepcluster-vgg16", "deepcluster-alexnet"])
def test_deepclusters_features_are_those_of_its_own_layers(method, tmp_path):
    torch.manual_seed(0)
    own = theirs(FORMATS[method].network).eval()
    state = {f"features.module.{name}": value for name, value in own.state_dict().items()}
    network = authors_network(save(tmp_path / "file.pth", {"epoch": 1, "state_dict": state}), method)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3)).astype(np.uint8)
    found = dense_backbone(NetworkFeatures(network, torch.device("cpu")))(image)

    grey = nn.Conv2d(3, 1, 1)
    sobel = nn.Conv2d(1, 2, 3, padding=1)
    nn.init.constant_(grey.weight, 1 / 3), nn.init.zeros_(grey.bias), nn.init.zeros_(sobel.bias)
    sobel.weight.data[0, 0] = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    sobel.weight.data[1, 0] = torch.tensor([[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]])
    with torch.no_grad():
        edges = sobel(grey(normalise(torch.from_numpy(image).permute(0, 3, 1, 2))))
        if method == "deepcluster-vgg16":
            torch.testing.assert_close(found, own[:33](edges))
            assert found.shape == (1, 512, 8, 12) and network.channels["backbone"] == 512
        else:
            own[7] = nn.MaxPool2d(3, 1, padding=1)
            torch.testing.assert_close(found, own[:17](edges))
            assert found.shape[1] == network.channels["backbone"] == 256


@pytest.mark.parametrize("method", FORMATS)
def test_another_file_is_refused_in_one_line(method, tmp_path):
    def read(content):
        return told(authors_network, save(tmp_path / "file.pth", content), method)

    other = "crw-resnet18" if method != "crw-resnet18" else "moco-resnet50"
    what = f"{tmp_path / 'file.pth'}: not {FORMATS[method].what} weights ("
    message = read(content_of(other))
    assert message.startswith(f"{what}0 of ") and message.endswith("; download them again")
    content = content_of(method)
    state = content.get(FORMATS[method].inside, content)
    del state[next(name for name in state if "conv1" in name or "features.module.0." in name)]
    assert " tensors are there, and 0 others)" in read(content)
    (tmp_path / "file.pth").write_bytes(b"not weights")
    assert told(authors_network, tmp_path / "file.pth", method).startswith(what)


def test_tensors_of_another_shape_are_refused(tmp_path):
    content = content_of("crw-resnet18")
    content["model"]["encoder.model.conv1.1.weight"] = torch.zeros(64, 3, 5, 5)
    assert "size mismatch for conv1.weight" in told(
        authors_network, save(tmp_path / "file.pth", content), "crw-resnet18"
    )


def test_a_file_that_brings_code_is_refused_with_the_remedy(tmp_path):
    content = content_of("deepcluster-alexnet") | {"optimizer": {"lr": np.float64(0.05)}}
    message = told(authors_network, save(tmp_path / "file.pth", content), "deepcluster-alexnet")
    assert "holds more than tensors (numpy" in message
    remedy = "torch.save(torch.load(FILE, weights_only=False)['state_dict'], FILE)"
    assert message.endswith(f"where you trust it, save its tensors alone: {remedy}")
    saved = torch.load(tmp_path / "file.pth", weights_only=False)["state_dict"]
    torch.save(saved, tmp_path / "file.pth")
    assert isinstance(authors_network(tmp_path / "file.pth", "deepcluster-alexnet"), DeepCluster)


def test_a_run_with_authors_weights_is_tracked_once_whatever_the_profiles_network(
    pipeline, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("HGRL_DATA", str(tmp_path))
    runs = SMALL_PARAMS["runs"] | {"crw": {"method": "crw-resnet18", "weights": "crw.pth"}}
    paths.PARAMS.write_text(yaml.safe_dump({**SMALL_PARAMS, "runs": runs, "tracking": ["identity", "crw"]}))
    assert evaluate("tracking").keys() == {"identity"}
    assert "run 'crw' is left out: weights file missing" in capsys.readouterr().out
    missing = line("tracking", "crw")
    assert missing.startswith(
        f"{tmp_path / 'crw.pth'}: run 'crw': weights file missing; save CRW's ResNet-18"
    )
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({"model": {f"encoder.{name}": value for name, value in model.items()}}, tmp_path / "crw.pth")
    scores = evaluate("tracking", "crw")["crw"]
    assert scores.keys() == {0} and scores[0]["field"]["stride"] == 8
    assert "unknown" in line("probe", "crw")
    for definition in ({"method": "crw-resnet18"}, {"method": "moco", "weights": "crw.pth"}):
        paths.PARAMS.write_text(
            yaml.safe_dump({**SMALL_PARAMS, "runs": {"odd": definition}, "tracking": ["odd"]})
        )
        assert "runs.odd.weights': a file name for one of the methods 'imagenet', " in told(small)
