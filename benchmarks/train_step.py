"""Shares of a training step: the bare network against sampling and objective, in one run, on made-up batches.

    python benchmarks/train_step.py mini

Prints seconds and ratios; nothing is written. Target: sampling and objective at most 10 % of the step on a CPU.
"""

import sys
import time

import torch

from hgrl.config import Settings, load_settings
from hgrl.network import Network, normalise
from hgrl.objective import contrastive_loss
from hgrl.pretrain import pick_device
from hgrl.sampling import sample_pixels

WARM_UP, STEPS = 3, 20


def batch(settings: Settings, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random images, label maps of `max_regions` bands, random ultrametric-like distances."""
    images, side, regions = settings.pretrain.batch, settings.augment.crop_size, settings.grouping.max_regions
    cells = side // 4
    bands = torch.arange(cells * cells, device=device).view(cells, cells) * regions // (cells * cells)
    distances = torch.rand(images, regions, regions, device=device)
    pixels = torch.randint(0, 256, (2 * images, 3, side, side), dtype=torch.uint8, device=device)
    return pixels, bands.expand(2, images, cells, cells).contiguous(), torch.maximum(distances, distances.mT)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(settings: Settings) -> dict[str, float]:
    """Mean seconds of the parts of a step."""
    device = pick_device(settings.device)
    network = Network(settings.network).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    pixels, labels, distances = batch(settings, device)
    network_time = objective_time = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            network_time = objective_time = 0.0
        start = clock(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.pretrain.precision == "bf16"):
            embedding = network(normalise(pixels)).unflatten(0, (2, -1))
        embedded = clock(device)
        leaf = embedding.detach().requires_grad_()  # so that the objective's backward is timed by itself
        sample = sample_pixels(labels, distances, settings.sampling, settings.sampling.cns[0])
        contrastive_loss(leaf, sample, settings.objective)[0].backward()
        scored = clock(device)
        optimizer.zero_grad()
        embedding.backward(leaf.grad)
        optimizer.step()
        done = clock(device)
        network_time += embedded - start + done - scored
        objective_time += scored - embedded
    return {"network": network_time / STEPS, "sampling and objective": objective_time / STEPS}


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = measure(load_settings(sys.argv[1] if len(sys.argv) > 1 else "mini"))
    total = sum(parts.values())
    for name, seconds in parts.items():
        print(f"{name:25} {1000 * seconds:8.1f} ms {100 * seconds / total:6.1f} % of the step")
