"""Draw the pictures of docs/ideas.md and docs/commands/project.md from scikit-image's photos and the ZFNet that comes along.

    python docs/draw_ideas.py [DEMO]

DEMO is what `deconvnet demo` has made (default: demo).
"""

import io
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from deconvnet import Atlas, Network, load, project
from deconvnet.projection import display_scale, to_pixels

PICTURES = Path(__file__).parent / "pictures"
WIDTH, DPI = 1600, 160
BOX, WARM, COLD = "#ffb000", "#c0392b", "#2b6cb0"

#: Picked by eye: one of the units of conv3 that the photo drives most; it answers to a bent upper edge, dark below bright.
PHOTO, LAYER, UNIT = "camera/1.00-00-00.jpg", "conv3", 12
#: Picked by eye: units of which a reader sees at once what their nine patches share.
NINE = ("conv4", [9, 13, 25, 31])


def main(demo: str = "demo") -> None:
    """Write the pictures, small enough for a page."""
    photo = Image.open(Path(demo) / "photos" / PHOTO)
    plt.rcParams.update({"font.size": 11, "axes.titlesize": 12})
    net = load("zfnet")
    save(drawn(one_activation(net, photo)), "ideas-activation.webp")
    save(drawn(way_down(net, photo)), "ideas-way-down.webp")
    save(drawn(shared_switch()), "ideas-switches.webp")
    save(Atlas(Path(demo) / "zfnet").figure(*NINE), "ideas-nine.webp")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "project.png"
        words = [
            "project",
            "zfnet",
            str(Path(demo) / "photos" / "chelsea/1.00-00-01.jpg"),
            "--layer",
            "conv5",
            "--unit",
            "12",
        ]
        subprocess.run([sys.executable, "-m", "deconvnet", *words, "--out", str(file)], check=True)
        save(Image.open(file).convert("RGB"), "project.webp")


def one_activation(net: Network, photo: Image.Image) -> Figure:
    """A view, the feature map of one unit, the projection of its strongest activation, and both in the receptive field."""
    x = net.preprocess(photo)[None]
    feature_map = net.activations(x, LAYER)[0, UNIT]
    row, column = divmod(int(feature_map.argmax()), feature_map.shape[1])
    projection = project(net, x, layer=LAYER, unit=UNIT).as_subclass(Tensor)[0]
    left, top, right, bottom = net.layer(LAYER).field.patch_box(row, column)
    view = net.preprocessing.denormalise(x)[0]
    scale = display_scale(projection[:, top:bottom, left:right])
    grey = to_pixels(projection, scale)
    figure, axes = plt.subplots(1, 5, figsize=(WIDTH / DPI, 2.65))
    figure.subplots_adjust(left=0.006, right=0.994, top=0.84, bottom=0.08, wspace=0.05)
    named(axes[0], "view\nof the photo", f"{view.shape[1]}×{view.shape[0]} pixels").imshow(view)
    size = "×".join(map(str, feature_map.shape))
    named(axes[1], f"feature map\nof {LAYER}, unit {UNIT}", f"{size}; strongest {feature_map.max():.4g}").imshow(
        feature_map, cmap="gray"
    )
    axes[1].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color=BOX, lw=2))
    named(axes[2], "projection\nof the activation", "224×224; zero is mid-grey").imshow(grey)
    for ax in (axes[0], axes[2]):
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color=BOX, lw=2))
    side = f"{right - left}×{bottom - top} pixels"
    named(axes[3], "receptive field\nin the view", side).imshow(view[top:bottom, left:right])
    named(axes[4], "receptive field\nin the projection", side).imshow(grey[top:bottom, left:right])
    return figure


def way_down(net: Network, photo: Image.Image) -> Figure:
    """The sizes of the signal on its way from one activation of conv3 to the pixels: what stands at every place, all maps
    together.
    """
    x = net.preprocess(photo)[None]
    module = net.module.float()
    signals: list[tuple[str, Tensor]] = []
    with torch.no_grad():
        conv1 = F.relu(module.conv1(x))
        pool1, switches1 = F.max_pool2d(conv1, 3, 2, ceil_mode=True, return_indices=True)
        conv2 = F.relu(module.conv2(module.norm(pool1)))
        pool2, switches2 = F.max_pool2d(conv2, 3, 2, ceil_mode=True, return_indices=True)
        conv3 = F.relu(module.conv3(module.norm(pool2)))
        signal = torch.zeros_like(conv3)
        place = conv3[0, UNIT].argmax()
        signal[0, UNIT].view(-1)[place] = conv3[0, UNIT].view(-1)[place]
        signals.append(("start with\none of conv3", signal))
        signal = F.conv_transpose2d(F.relu(signal), module.conv3.weight, padding=1)
        signals.append(("filter as\nconv3, transposed", signal))
        signal = F.relu(unpool(signal, switches2, conv2))
        signals.append(("unpool to\nconv2, rectify", signal))
        signal = F.conv_transpose2d(signal, module.conv2.weight, stride=2)
        signals.append(("filter as\nconv2, transposed", signal))
        signal = F.relu(unpool(signal, switches1, conv1))
        signals.append(("unpool to\nconv1, rectify", signal))
        signal = F.conv_transpose2d(signal, module.conv1.weight, stride=2, padding=1, output_padding=1)
    ours = project(net, x, layer=LAYER, unit=UNIT).as_subclass(Tensor)
    assert torch.allclose(signal, ours, atol=1e-5 * float(ours.abs().max())), "the picture would not show the package's way"
    figure, axes = plt.subplots(1, 6, figsize=(WIDTH / DPI, 2.35))
    figure.subplots_adjust(left=0.006, right=0.994, top=0.82, bottom=0.12, wspace=0.06)
    for ax, (title, values) in zip(axes, signals, strict=False):
        strength = values[0].abs().sum(dim=0)
        below = f"{values.shape[1]} maps of {values.shape[2]}×{values.shape[3]}"
        named(ax, title, below).imshow(strength.sqrt(), cmap="gray", interpolation="nearest")
    named(axes[5], "filter as conv1:\npixels", "3 of 224×224").imshow(
        to_pixels(signal[0], display_scale(signal[signal != 0]))
    )
    return figure


def unpool(signal: Tensor, switches: Tensor, like: Tensor) -> Tensor:
    """Each value at its switch; where windows share one, they add."""
    return torch.zeros_like(like).flatten(2).scatter_add_(2, switches.flatten(2), signal.flatten(2)).view_as(like)


def shared_switch() -> Figure:
    """Four windows of a 5×5 map that share their switch, and what the two readings of unpooling make of it."""
    values = torch.tensor([[3, 1, 4, 1, 5], [2, 6, 5, 3, 5], [0, 2, 9, 2, 6], [5, 3, 5, 8, 1], [4, 1, 2, 0, 3]])
    pooled, switches = F.max_pool2d(values[None, None].float(), 3, 2, return_indices=True)
    signal = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    added = unpool(signal, switches, values[None, None].float())[0, 0]
    written = F.max_unpool2d(signal, switches, 3, 2, output_size=(5, 5))[0, 0]
    assert (added[2, 2], written[2, 2]) == (10, 4)
    figure, axes = plt.subplots(1, 5, figsize=(WIDTH / DPI, 2.75), width_ratios=(5, 2.6, 2.6, 5, 5))
    figure.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.2, wspace=0.26)
    numbers(axes[0], values, "a  before pooling", "four windows of 3×3;\n9 is the maximum of each")
    for number, (row, column) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        inset = 0.04 + 0.035 * number
        corner = (column - 0.5 + inset, row - 0.5 + inset)
        side = 3 - 2 * inset
        axes[0].add_patch(Rectangle(corner, side, side, fill=False, lw=1.8, color=plt.cm.tab10(number)))
    numbers(axes[1], pooled[0, 0], "b  pooled", "on the way up")
    numbers(axes[2], signal[0, 0], "c  the signal", "on the way down")
    for number, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        for ax in axes[1:3]:
            ax.add_patch(Rectangle((column - 0.42, row - 0.42), 0.84, 0.84, fill=False, lw=1.8, color=plt.cm.tab10(number)))
    numbers(axes[3], added, "d  unpooled: the sum", "1 + 2 + 3 + 4 = 10:\nback-propagation")
    numbers(axes[4], written, "e  or: the last", "1, 2 and 3 are lost:\nMaxUnpool2d")
    for ax, color in ((axes[3], COLD), (axes[4], WARM)):
        ax.add_patch(Rectangle((1.5, 1.5), 1, 1, color=color, alpha=0.25, lw=0))
    return figure


def numbers(ax: Axes, values: Tensor, title: str, below: str) -> None:
    rows, columns = values.shape
    named(ax, title, below)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), aspect="equal")
    for edge in range(1, rows):
        ax.axhline(edge - 0.5, color="0.85", lw=0.8, zorder=0)
        ax.axvline(edge - 0.5, color="0.85", lw=0.8, zorder=0)
    for row in range(rows):
        for column in range(columns):
            number = int(values[row, column])
            strong = number in (9, 10) or (number == 4 and "last" in title) or rows == 2
            ax.text(column, row, str(number), ha="center", va="center", weight="bold" if strong else "normal",
                    color="0.6" if number == 0 else "black", fontsize=12)  # fmt: skip


def named(ax: Axes, title: str, below: str) -> Axes:
    ax.set_title(title)
    ax.set_xlabel(below, fontsize=10.5, color="0.3", labelpad=3)
    ax.set(xticks=[], yticks=[])
    return ax


def drawn(figure: Figure) -> Image.Image:
    memory = io.BytesIO()
    figure.savefig(memory, dpi=DPI)
    plt.close(figure)
    return Image.open(memory).convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    """Scale down to `WIDTH` pixels, if it is wider, and write as WebP."""
    picture.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    picture.save(PICTURES / name, quality=82, method=6)


if __name__ == "__main__":
    main(*sys.argv[1:])
