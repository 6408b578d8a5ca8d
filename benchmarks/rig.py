"""A method's training step on a made-up batch, cut where the network ends, and the network's own work."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hgrl.core.settings import Settings
from hgrl.data.normalise import normalise
from hgrl.pretraining.methods import Method, build_method
from hgrl.pretraining.methods.contrast import image_codes
from hgrl.pretraining.methods.hierarchical import pixel_loss
from hgrl.pretraining.methods.instfeat import instance_loss
from hgrl.sampling.views import Batch

METHODS = ("hierarchical", "moco", "instfeat")


@dataclass(frozen=True)
class Cut:
    """A method's loss as the network's work and the rest: `rest(network(batch), batch)` is the loss."""

    network: Callable[[Method, Batch], Tensor]
    rest: Callable[[Method, Tensor, Batch], Tensor]


CUTS = {
    "hierarchical": Cut(
        lambda method, batch: method.network(normalise(batch.flat_images)),
        lambda method, embedding, batch: pixel_loss(embedding, batch, method.sampling, method.objective)[0],
    ),
    "moco": Cut(
        lambda method, batch: method.query_features(batch.images[0]),
        lambda method, features, batch: method.image_loss(features, batch)[0],
    ),
    "instfeat": Cut(
        lambda method, batch: method.network.backbone(normalise(batch.flat_images))[-1],
        lambda method, features, batch: instance_loss(
            image_codes(features, method.head), method.instfeat.temperature
        ),
    ),
}


class Watch:
    """Seconds of the parts of one pass: each mark ends a part. On a GPU by the device's own clock, read when
    all is done."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.names, self.marks = device, [], []
        self.mark("")

    def mark(self, part: str) -> None:
        if self.device.type == "cuda":
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
        else:
            if self.device.type != "cpu":
                torch.accelerator.synchronize()
            moment = time.perf_counter()
        self.names.append(part)
        self.marks.append(moment)

    def seconds(self) -> dict[str, float]:
        """Seconds by part; parts of one name are added."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        found: dict[str, float] = {}
        for part, before, after in zip(self.names[1:], self.marks[:-1], self.marks[1:], strict=True):
            seconds = before.elapsed_time(after) / 1000 if self.device.type == "cuda" else after - before
            found[part] = found.get(part, 0.0) + seconds
        return found


class Rig:
    """A method with its optimiser on one made-up batch."""

    def __init__(self, name: str, settings: Settings, device: torch.device) -> None:
        self.name, self.settings, self.device, self.cut = name, settings, device, CUTS[name]
        torch.manual_seed(0)
        self.method = build_method(name, settings).to(device).train()
        if settings.pretrain.channels_last:
            self.method = self.method.to(memory_format=torch.channels_last)
        # as the training loop's, but for the learning rate
        self.optimizer = torch.optim.Adam(self.method.parameters(), lr=0.0, fused=device.type != "mps")
        self.batch = made_batch(settings, device)
        self.watch = Watch(device)
        if name == "moco":
            encoder = self.method.key_encoder
            encoder.register_forward_pre_hook(lambda *_: self.watch.mark("sampling and objective"))
            encoder.register_forward_hook(lambda *_: self.watch.mark("momentum forward"))

    def compile(self) -> None:
        modules = [self.method.network] if self.name == "hierarchical" else [self.method.network.backbone]
        if self.name == "moco":
            modules += list(self.method.key_encoder.copies)
        for module in modules:
            module.compile()

    def step(self) -> dict[str, float]:
        """Seconds of the whole step's parts; the backward pass is cut at the network's output, so that the
        loss's own is timed by itself."""
        self.watch = Watch(self.device)
        with self._autocast():
            output = self.cut.network(self.method, self.batch)
            self.watch.mark("forward")
            leaf = output.detach().requires_grad_()
            loss = self.cut.rest(self.method, leaf, self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.watch.mark("sampling and objective")
        self._update(output, leaf.grad)
        return self.watch.seconds()

    def bare(self) -> dict[str, float]:
        """Seconds of the network's own part of that: its passes and the update, with a gradient of ones."""
        self.watch = Watch(self.device)
        with self._autocast():
            output = self.cut.network(self.method, self.batch)
            self.watch.mark("forward")
            if self.name == "moco":
                with torch.no_grad():
                    self.method.key_encoder.copies[0](normalise(self.batch.images[1]))
                self.watch.mark("momentum forward")
        self.optimizer.zero_grad(set_to_none=True)
        self._update(output, torch.ones_like(output))
        return self.watch.seconds()

    def _update(self, output: Tensor, gradient: Tensor) -> None:
        output.backward(gradient)
        self.watch.mark("backward")
        self.optimizer.step()
        self.watch.mark("optimizer")

    def _autocast(self) -> torch.autocast:
        bf16 = self.settings.pretrain.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bf16)

    def flops_per_image(self) -> float:
        """Operations of a step's matrix products and convolutions; multiplying and adding are two."""
        with FlopCounterMode(display=False) as counter:
            self.step()
        return counter.get_total_flops() / self.settings.pretrain.batch


def made_batch(settings: Settings, device: torch.device) -> Batch:
    """Random images, label maps of `max_regions` bands, random distances."""
    images, side, regions = settings.pretrain.batch, settings.augment.crop_size, settings.grouping.max_regions
    cells = side // 4
    generator = torch.Generator(device).manual_seed(0)
    number = torch.arange(cells * cells, device=device).view(cells, cells)
    bands = (number * regions // cells**2).to(torch.uint8).expand(2, images, cells, cells).contiguous()
    distances = torch.rand(images, regions, regions, generator=generator, device=device)
    distances = torch.maximum(distances, distances.mT)
    shape = (2, images, 3, side, side)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8, device=device)
    return Batch(pixels, bands, distances, 0.0, generator)
