"""Projections on an accelerator equal those on the CPU, by every rule set, where rounding turns no switch."""

import pytest
import torch

import deconvnet
from deconvnet.data import find_images
from deconvnet.projection import RULES, project


@pytest.mark.parametrize("rules", RULES)
def test_they_equal_the_cpus(inputs, device, on_device, noise, rules):
    file = find_images(inputs / "photos" / "val").file(0)

    def projections(device):
        network = deconvnet.load(f"{inputs}/networks.py:one").to(device)
        x = network.preprocess(deconvnet.data.read_image(file))[None]
        found = [
            project(network, x, layer=layer, unit=int(unit), rules=rules)
            for layer in network.convolutional_layers
            for unit in network.activations(x, layer)[0].flatten(1).amax(dim=1).cpu().topk(3).indices
        ]
        return [torch.as_tensor(projection).cpu() for projection in found]

    on_cpu = projections("cpu")
    with on_device():
        on_emu = projections(device)
    errors = torch.stack([(ours - theirs).norm() / theirs.norm() for ours, theirs in zip(on_emu, on_cpu, strict=True)])
    turned = int((errors > max(1e-5, 100 * noise)).sum())  # rounding has turned a switch or a ReLU on the way down
    print(f"noise {noise:g}, {rules}: {turned} of {len(errors)} projections differ, at most by {errors.max():.1e}")
    assert turned <= (1 if noise else 0)
