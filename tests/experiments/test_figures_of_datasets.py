"""The figures over data sets of inputs that are no square photos, against plain loops."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deconvnet import DeconvnetError, Network, UsageError
from deconvnet.data import InputDataset
from deconvnet.experiments.fig5_invariance import measure_invariance
from deconvnet.experiments.fig5_invariance.transforms import rotated, scaled, translated
from deconvnet.experiments.fig6_comparison import compare
from deconvnet.experiments.fig6_comparison.aliasing import aliased_fractions
from deconvnet.experiments.fig7_occlusion import Occluder, occlude
from deconvnet.experiments.fig7_occlusion.compute import write_occlusion
from deconvnet.experiments.look import look
from deconvnet.experiments.sanity_checks import check_sanity
from helpers.odd_shapes import SHAPES, Blobs, odd_network
from oracles import plain_occlusion
from oracles.hand_placed_rules import Deconvnet
from oracles.plain_aliasing import aliased_energy

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "×".join(map(str, shape)))


def texts(figure):
    return " ".join(text.get_text() for part in (figure, *figure.axes) for text in part.texts)


@shapes
@pytest.mark.parametrize(("size", "stride"), [(7, 3), (20, 6)])
def test_occlusion_maps_are_those_of_the_plain_loop(shape, size, stride):
    network, blobs = odd_network(shape), Blobs(shape)
    images = [blobs[3], blobs[8]]
    result = occlude(network, images, Occluder(size, stride), search_images=blobs, batch_size=7)
    rows, columns = len(range(0, shape[1] - size + 1, stride)), len(range(0, shape[2] - size + 1, stride))
    assert (len(result.starts), len(result.column_starts)) == (rows, columns)
    for image, (x, _) in zip(result.occluded_images, images, strict=True):
        scores = plain_occlusion.occlude(network.module, x, size, stride, torch.zeros(shape[0]))
        maps = plain_occlusion.occlude(
            lambda version: network.activations(version, "conv2"), x, size, stride, torch.zeros(shape[0])
        )
        target = int(network.module(x[None]).argmax())
        assert len(scores) == rows * columns
        assert image.probability_map.shape == image.activation_map.shape == (rows, columns)
        for (top, left), output in scores.items():
            at = top // stride, left // stride
            assert image.probability_map[at] == pytest.approx(float(output.softmax(dim=1)[0, target]), abs=1e-5)
            assert image.activation_map[at] == pytest.approx(float(maps[top, left][0, image.unit].sum()), rel=1e-4)
        assert image.projection.shape == (shape[0], *network.layer("conv2").field.patch_size)
    assert "lowest value (black)" in texts(result.figure())


def test_occlusion_of_a_data_set_is_written_and_knows_the_same_item(tmp_path):
    shape = SHAPES[0]
    network, blobs = odd_network(shape), InputDataset(Blobs(shape, 5), "blobs")
    result = write_occlusion(tmp_path / "out", network, blobs, Occluder(8, 5))
    written = json.loads((tmp_path / "out" / "occlusion.json").read_text())
    assert written["starts"] == list(range(0, 21, 5))
    assert written["column_starts"] == list(range(0, 33, 5))
    assert [photo["path"] for photo in written["photos"]] == [f"input {index}" for index in range(5)]
    for index, image in enumerate(result.occluded_images):
        assert image.other_hits
        assert all(hit.image != index for hit, _ in image.other_hits)


def test_a_colour_needs_a_preprocessing_and_an_occluder_has_to_fit():
    shape = SHAPES[0]
    network, blobs = odd_network(shape), Blobs(shape, 3)
    with pytest.raises(UsageError, match="odd has no preprocessing"):
        occlude(network, blobs, Occluder(7, 3, (0, 0, 0)))
    with pytest.raises(UsageError, match="An occluder of 30 pixels does not fit into a view of 28"):
        occlude(network, blobs, Occluder(30, 3))


@shapes
def test_sanity_checks_run_and_say_how_inputs_are_shown(shape):
    network, blobs = odd_network(shape), Blobs(shape)
    result = check_sanity(network, [blobs[0], blobs[1]], draws=2, stride=5)
    size = min(shape[1:]) // 4
    assert result.occluder.size == size
    maps = result.occlusion_curve.pictures[0]
    assert maps.shape == tuple(len(range(0, length - size + 1, 5)) for length in shape[1:])
    assert result.deletion_curve.by_map.shape == (2, 21)
    # All is covered in the end, in whatever order.
    nothing = float(network.probabilities(torch.zeros(1, *shape))[0, int(network.module(blobs.inputs[:1]).argmax())])
    for order in (result.deletion_curve.by_map, result.deletion_curve.from_the_centre):
        assert order[0, -1] == pytest.approx(nothing, abs=1e-5)
    assert "lowest value (black)" in texts(result.figure())


@shapes
def test_a_turn_is_one_in_pixels_whatever_the_sides(shape):
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.allclose(rotated(x, 180), x.flip(1).flip(2), atol=1e-9)
    assert torch.equal(rotated(x, 0), x)
    channels, height, width = shape
    for degrees in (90, 37):
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turned = rotated(x, degrees)
        for row, column in ((height // 2, width // 2), (height // 2 + 5, width // 2 - 4), (height // 2 - 7, width // 2 + 3)):
            right, down = column - (width - 1) / 2, row - (height - 1) / 2
            # Anticlockwise, where rows go down.
            from_column = cosine * right - sine * down + (width - 1) / 2
            from_row = sine * right + cosine * down + (height - 1) / 2
            top, left = math.floor(from_row), math.floor(from_column)
            below, beside = from_row - top, from_column - left
            expected = torch.zeros(channels, dtype=torch.float64)
            for step_down, share_down in ((0, 1 - below), (1, below)):
                for step_right, share_right in ((0, 1 - beside), (1, beside)):
                    expected += share_down * share_right * x[:, top + step_down, left + step_right]
            assert torch.allclose(turned[:, row, column], expected, atol=1e-9), (degrees, row, column)
    assert torch.equal(translated(x, 3)[:, 3:], x[:, :-3])
    assert scaled(x, 1.5).shape == x.shape


@shapes
def test_invariance_is_measured_over_a_data_set(shape):
    network, blobs = odd_network(shape), Blobs(shape, 2)
    result = measure_invariance(network, blobs)
    curves = result.curves["translation"]
    values = curves.transformation.values
    x = blobs.inputs[0]
    moved = torch.zeros_like(x)
    moved[:, 8:] = x[:, :-8]
    features = [network.activations(version[None], "fc3")[0].double() for version in (x, moved)]
    expected = float((features[0] / features[0].norm() - features[1] / features[1].norm()).norm())
    assert float(curves.distances[1, 0, values.index(8)]) == pytest.approx(expected, abs=1e-5)
    figure = result.figure()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [label.partition(":")[0] for label in labels] == ["input 0", "input 1"]


@shapes
def test_two_networks_are_compared_over_a_data_set(shape):
    first, second = odd_network(shape), odd_network(shape)
    with torch.no_grad():
        second.module.conv1.weight[0] = 0
    result = compare(first, second, Blobs(shape), 3)
    assert any("37 inputs" in finding.measured for finding in result.findings)
    figures = result.figures()
    assert figures.keys() == {"filters", "blocks", "measures"}
    assert "lowest value (black)" in texts(figures["blocks"])


def test_aliasing_of_a_data_set_is_the_definition():
    """Responses at every pixel by a stride of one, where no field sees what a translation would bring in."""
    weights, inputs = torch.randn(2, 2, 5, 4), torch.randn(3, 2, 32, 41)

    def convolution(stride, padding):
        module = nn.Conv2d(2, 2, (5, 4), stride, padding)
        with torch.no_grad():
            module.weight[:], module.bias[:] = weights, 0
        return Network(nn.Sequential(module, nn.ReLU()), input_shape=(2, 32, 41), layer_names=["conv1"], classifies=False)

    found = aliased_fractions(convolution((3, 2), (1, 2)), InputDataset(inputs), [0, 2], ["conv1"])["conv1"].above_nyquist
    dense = F.relu(F.conv2d(inputs, weights)).double()  # at (row, column) where a field begins there
    shifts = 3
    for unit in range(2):
        aliased = total = 0.0
        # Fields begin at −1 + 3 · position along rows, at −2 + 2 · position along columns, and end before the last 2.
        rows = [start for start in range(-1, 32, 3) if start >= 0 and start + 5 <= 32 - (shifts - 1)]
        columns = [start for start in range(-2, 41, 2) if start >= 0 and start + 4 <= 41 - (shifts - 1)]
        for image in (0, 2):
            for column in columns:
                line = dense[image, unit, rows[0] : rows[-1] + 3, column].tolist()
                aliased, total = (a + b for a, b in zip((aliased, total), aliased_energy(line, 3), strict=True))
            for row in rows:
                line = dense[image, unit, row, columns[0] : columns[-1] + 2].tolist()
                aliased, total = (a + b for a, b in zip((aliased, total), aliased_energy(line, 2), strict=True))
        assert float(found[unit]) == pytest.approx(aliased / total, rel=1e-4)


@shapes
def test_look_takes_an_input_apart(shape):
    network, x = odd_network(shape), Blobs(shape).inputs[4]
    result = look(network, x, "input 4")
    assert result.view.shape == (*shape[1:], shape[0])
    unit = result.layers["conv2"][0]
    oracle = Deconvnet(network.module, x[None]).project(1, unit.unit, unit.row, unit.column)
    expected = oracle[:, unit.box.top : unit.box.bottom, unit.box.left : unit.box.right]
    assert torch.allclose(unit.projection, expected, atol=1e-5 * float(expected.abs().max()))
    pictures = [image.get_array() for axes in result.figure().axes for image in axes.get_images()]
    assert len(pictures) > 10
    assert all(np.asarray(picture).ndim in (2, 3) for picture in pictures)
    with pytest.raises(UsageError, match="takes a tensor of shape"):
        look(network, x[:, :-1])


def test_an_item_that_is_no_input_is_refused_by_every_figure():
    shape = SHAPES[0]
    network, wrong = odd_network(shape), [torch.zeros(1, 28, 39)] * 3
    for figure in (lambda *arguments: occlude(*arguments, Occluder(7, 3)), measure_invariance, check_sanity):
        with pytest.raises(DeconvnetError, match=r"Item 0 of list has the shape \(1, 28, 39\), and the network takes"):
            figure(network, wrong)
