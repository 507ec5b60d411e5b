"""A deconvnet written straight from section 2.1: forward with switches, then unpool, rectify, filter, layer by layer.

Nothing here uses autograd, and nothing is shared with the package. A network is a list of steps, each a small class with
`up` (forward, remembering what `down` needs) and `down`. Other methods replace some of the paper's steps (`CONVENTIONS`).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class Convolve:
    """Down: transposed filters, same stride, padding and groups, no bias, back to the size of the input."""

    layer: nn.Conv2d
    size: torch.Size = field(default_factory=torch.Size)

    def up(self, x: Tensor) -> Tensor:
        self.size = x.shape
        c = self.layer
        return F.conv2d(x, c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups)

    def down(self, signal: Tensor) -> Tensor:
        c = self.layer
        default_size = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(signal.shape[2:], c.stride, c.padding, c.dilation, c.kernel_size, strict=True)
        ]
        output_padding = [size - default for size, default in zip(self.size[2:], default_size, strict=True)]
        return F.conv_transpose2d(signal, c.weight, None, c.stride, c.padding, output_padding, c.groups, c.dilation)


@dataclass
class Connect:
    """A fully connected layer on flattened maps; down: the transposed matrix, no bias."""

    layer: nn.Linear
    size: torch.Size = field(default_factory=torch.Size)

    def up(self, x: Tensor) -> Tensor:
        self.size = x.shape
        return (x.flatten(1) @ self.layer.weight.T + self.layer.bias)[:, :, None, None]

    def down(self, signal: Tensor) -> Tensor:
        return (signal.flatten(1) @ self.layer.weight).view(self.size)


class Rectify:
    """Down: the signal itself is rectified; where the forward pass was active plays no part."""

    def up(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, torch.zeros_like(x))

    def down(self, signal: Tensor) -> Tensor:
        return torch.where(signal > 0, signal, torch.zeros_like(signal))


class Mask(Rectify):
    """Down: the signal passes where the forward pass was active, whatever its sign: the derivative of a ReLU."""

    def up(self, x: Tensor) -> Tensor:
        self.active = x > 0
        return super().up(x)

    def down(self, signal: Tensor) -> Tensor:
        return torch.where(self.active, signal, torch.zeros_like(signal))


class Guide(Mask):
    """Down: the signal passes where the forward pass was active and it is itself positive."""

    def down(self, signal: Tensor) -> Tensor:
        return super().down(torch.where(signal > 0, signal, torch.zeros_like(signal)))


@dataclass
class Normalise:
    """Local response normalisation, one map after the other; down: the identity."""

    n: int
    alpha: float
    beta: float
    k: float

    def up(self, x: Tensor) -> Tensor:
        maps = x.shape[1]
        out = torch.empty_like(x)
        for i in range(maps):
            near = x[:, max(0, i - self.n // 2) : min(maps, i + self.n // 2 + 1)]
            out[:, i] = x[:, i] / (self.k + self.alpha / self.n * (near**2).sum(dim=1)) ** self.beta
        return out

    def down(self, signal: Tensor) -> Tensor:
        return signal


class DifferentiatedNormalise(Normalise):
    """Down: the transposed Jacobian. With b_i = a_i s_i^-beta and s_i = k + alpha/n sum over the maps near i of a_j^2,

    db_i/da_j = [i = j] s_i^-beta - 2 alpha/n beta a_i a_j s_i^(-beta - 1) [j is near i].
    """

    def up(self, x: Tensor) -> Tensor:
        self.input = x
        return super().up(x)

    def down(self, signal: Tensor) -> Tensor:
        a, maps, scale = self.input, self.input.shape[1], self.alpha / self.n
        down = torch.zeros_like(signal)
        for i in range(maps):
            near = range(max(0, i - self.n // 2), min(maps, i + self.n // 2 + 1))
            s = self.k + scale * sum(a[:, j] ** 2 for j in near)
            down[:, i] += signal[:, i] * s**-self.beta
            for j in near:
                down[:, j] -= signal[:, i] * 2 * scale * self.beta * a[:, i] * a[:, j] * s ** (-self.beta - 1)
        return down


@dataclass
class Pool:
    """Max pooling with ceil rounding; down: each value is added at its switch, the first maximum in row-major order."""

    kernel: int
    stride: int
    ceil: bool = True
    size: torch.Size = field(default_factory=torch.Size)
    switches: Tensor = field(default_factory=lambda: torch.empty(0))

    def up(self, x: Tensor) -> Tensor:
        self.size = x.shape
        n, maps, height, width = x.shape
        out = [
            (-(-(side - self.kernel) // self.stride) if self.ceil else (side - self.kernel) // self.stride) + 1
            for side in (height, width)
        ]
        values = x.new_empty(n, maps, *out)
        self.switches = torch.empty(n, maps, *out, dtype=torch.int64)
        for row in range(out[0]):
            for column in range(out[1]):
                top, left = row * self.stride, column * self.stride
                bottom, right = min(top + self.kernel, height), min(left + self.kernel, width)
                window = x[:, :, top:bottom, left:right].flatten(2)
                values[:, :, row, column] = window.amax(dim=2)
                first = (window == window.amax(dim=2, keepdim=True)).long().argmax(dim=2)
                self.switches[:, :, row, column] = (top + first // (right - left)) * width + left + first % (right - left)
        return values

    def down(self, signal: Tensor) -> Tensor:
        flat = signal.new_zeros(*self.size[:2], self.size[2] * self.size[3])
        return flat.scatter_add_(2, self.switches.flatten(2), signal.flatten(2)).view(self.size)


class OverwritingPool(Pool):
    """Down: each value is written to its switch, one window after the other in row-major order, replacing earlier values."""

    def down(self, signal: Tensor) -> Tensor:
        return written_one_by_one(self.switches, signal, self.size)


def written_one_by_one(switches: Tensor, values: Tensor, size: torch.Size) -> Tensor:
    """Maps (N, C, H, W) of `size`, zero but where a value was written, the last of several."""
    flat, switches, values = values.new_zeros(size).flatten(2), switches.flatten(2), values.flatten(2)
    for window in range(values.shape[2]):
        index = slice(window, window + 1)
        flat.scatter_(2, switches[:, :, index], values[:, :, index])
    return flat.view(size)


class TorchUnpool(Pool):
    """Down: torch's own unpooling, which documents no order among windows that share a switch."""

    def down(self, signal: Tensor) -> Tensor:
        return F.max_unpool2d(signal, self.switches, self.kernel, self.stride, output_size=self.size)


#: By name, the steps that replace the paper's.
CONVENTIONS = {
    "deconvnet": {},
    "overwrite": {Pool: OverwritingPool},
    "differentiated-norm": {Normalise: DifferentiatedNormalise},
    "guided": {Rectify: Guide, Normalise: DifferentiatedNormalise},
    "gradient": {Rectify: Mask, Normalise: DifferentiatedNormalise},
    "torch's unpooling": {Pool: TorchUnpool},
}


def with_convention(convention: str, steps: list) -> list:
    """The same network with the steps of another convention."""
    replacements = CONVENTIONS[convention]
    return [replacements[type(step)](**vars(step)) if type(step) in replacements else step for step in steps]


def forward(steps: list, x: Tensor) -> list[Tensor]:
    """The outputs (1, units, rows, columns) of every Rectify for x (1, 3, H, W); each step keeps its switches and sizes."""
    layers = []
    for step in steps:
        x = step.up(x)
        if isinstance(step, Rectify):
            layers.append(x)
    return layers


def project(
    steps: list, layers: list[Tensor], layer: int, unit: int, row: int, column: int, start: float | None = None
) -> Tensor:
    """One activation of the last `forward` down to pixels; `start` None sends down its own value."""
    signal = torch.zeros_like(layers[layer])
    signal[0, unit, row, column] = layers[layer][0, unit, row, column] if start is None else start
    end = [index for index, step in enumerate(steps) if isinstance(step, Rectify)][layer] + 1
    for step in reversed(steps[:end]):
        signal = step.down(signal)
    return signal


def alexnet2012_steps(module: nn.Module, n: int, alpha: float, beta: float, k: float) -> list:
    """Krizhevsky et al. 2012: convolution, ReLU, normalisation, pooling."""
    m = module
    steps = [Convolve(m.conv1), Rectify(), Normalise(n, alpha, beta, k), Pool(3, 2)]
    steps += [Convolve(m.conv2), Rectify(), Normalise(n, alpha, beta, k), Pool(3, 2)]
    steps += [Convolve(m.conv3), Rectify(), Convolve(m.conv4), Rectify(), Convolve(m.conv5), Rectify(), Pool(3, 2)]
    return steps + _connected(m)


def zfnet_steps(module: nn.Module, pool_first: bool = True) -> list:
    """Zeiler & Fergus, Fig. 3: convolution, ReLU, pooling, normalisation; or the last two the other way round."""
    m, steps = module, []
    for convolution in (m.conv1, m.conv2):
        after = [Pool(3, 2), Normalise(5, 1e-4, 0.75, 2.0)]
        steps += [Convolve(convolution), Rectify(), *(after if pool_first else reversed(after))]
    steps += [Convolve(m.conv3), Rectify(), Convolve(m.conv4), Rectify(), Convolve(m.conv5), Rectify(), Pool(3, 2)]
    return steps + _connected(m)


def torchvision_alexnet_steps(module: nn.Module) -> list:
    """Krizhevsky 2014: no normalisation; pooling rounds down."""
    f, c = module.features, module.classifier
    steps = [Convolve(f[0]), Rectify(), Pool(3, 2, ceil=False), Convolve(f[3]), Rectify(), Pool(3, 2, ceil=False)]
    steps += [Convolve(f[6]), Rectify(), Convolve(f[8]), Rectify(), Convolve(f[10]), Rectify(), Pool(3, 2, ceil=False)]
    return [*steps, Connect(c[1]), Rectify(), Connect(c[4]), Rectify()]


def _connected(module: nn.Module) -> list:
    if not hasattr(module, "fc6"):
        return []
    return [Connect(module.fc6), Rectify(), Connect(module.fc7), Rectify()]
