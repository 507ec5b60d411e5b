"""Mining a data set or an iterable of tensors, against the oracle; resuming and merging it; what is refused."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, TensorDataset

from deconvnet import DeconvnetError, UsageError, mine
from deconvnet.data import InputDataset
from deconvnet.mining import HISTOGRAM_EDGES, MiningState, merge_parts, mine_part
from helpers.odd_shapes import SHAPES, Blobs, odd_network
from oracles.brute_force_mining import hits_of, statistics_of

SHAPE = SHAPES[0]


@pytest.fixture
def network():
    return odd_network(SHAPE)


@pytest.fixture
def blobs():
    return Blobs(SHAPE)


class Transformed(Dataset):
    """A data set whose items go through a function of the index and the item."""

    def __init__(self, dataset, function) -> None:
        self.dataset, self.function = dataset, function

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        return self.function(index, self.dataset[index])


def maps_of(network, blobs, layer) -> np.ndarray:
    maps = network.activations(blobs.inputs, layer)
    return maps.reshape(len(blobs), -1, *network.layer(layer).map_size).numpy()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hits_and_statistics_are_the_oracles(shape):
    network, blobs = odd_network(shape), Blobs(shape)
    result = mine(network, blobs, ["conv1", "conv2", "fc3"], top=4, batch_size=5)
    labels = [str(label) for label in blobs.labels]
    assert result.image_set.classes == ("0", "1", "2", "3")
    assert list(result.image_set.labels) == labels
    for layer, layer_hits in result.layers.items():
        maps = maps_of(network, blobs, layer)
        for unit, expected in enumerate(hits_of(maps, 4)):
            hits = layer_hits[unit]
            assert [(hit.image, hit.path, hit.row, hit.column) for hit in hits] == [
                (image, str(image), row, column) for _, image, row, column in expected
            ]
            assert [hit.value for hit in hits] == pytest.approx([value for value, *_ in expected], rel=1e-5)
            for hit in hits:
                field = network.layer(layer).field
                assert hit.box == field.clipped_box(hit.row, hit.column)
                assert hit.box.right <= shape[2]
                assert hit.box.bottom <= shape[1]
        for unit, expected in enumerate(statistics_of(maps, labels, HISTOGRAM_EDGES.tolist())):
            statistics = layer_hits.statistics
            assert float(statistics.active_share[unit]) == expected["active_share"]
            assert float(statistics.mean_max[unit]) == pytest.approx(expected["mean_max"], rel=1e-5)
            assert statistics.histogram[unit].tolist() == expected["histogram"]
            assert statistics.class_sums[:, unit].tolist() == pytest.approx(list(expected["class_sums"].values()), rel=1e-5)
            assert float(statistics.selectivity[unit]) == pytest.approx(expected["selectivity"], rel=1e-4)


class Stream(IterableDataset):
    def __init__(self, blobs) -> None:
        self.blobs = blobs

    def __iter__(self):
        return iter([self.blobs[index] for index in range(len(self.blobs))])


@pytest.mark.parametrize(
    "form",
    [
        lambda blobs: [blobs[index] for index in range(len(blobs))],
        lambda blobs: (blobs[index] for index in range(len(blobs))),
        lambda blobs: (list(blobs[index]) for index in range(len(blobs))),
        Stream,
        lambda blobs: TensorDataset(blobs.inputs, torch.tensor(blobs.labels)),
        lambda blobs: Transformed(blobs, lambda index, item: (item[0].double(), np.int64(item[1]))),
        lambda blobs: InputDataset(blobs, "blobs"),
        lambda blobs: InputDataset(blobs, workers=2),
        lambda blobs: ConcatDataset([blobs]),
    ],
    ids=["list", "generator", "lists", "IterableDataset", "TensorDataset", "float64", "named", "processes", "ConcatDataset"],
)
def test_all_forms_give_the_same(network, blobs, form):
    expected, result = (mine(network, images, top=3, batch_size=8) for images in (blobs, form(blobs)))
    assert len(result.image_set) == len(blobs) == result.read_count
    assert result.image_set.labels == expected.image_set.labels
    for layer, layer_hits in result.layers.items():
        assert list(layer_hits) == list(expected[layer])
        for name, tensor in layer_hits.statistics.tensors().items():
            assert torch.equal(tensor, expected[layer].statistics.tensors()[name]), name


@pytest.mark.parametrize("form", [lambda x: x, lambda x: list(x), lambda x: iter(x), lambda x: TensorDataset(x)])
def test_items_without_labels_have_no_class(network, blobs, form):
    result = mine(network, form(blobs.inputs), top=2)
    assert result.image_set.classes == ()
    assert set(result.image_set.labels) == {""}
    assert result["conv1"][0] == mine(network, blobs, top=2)["conv1"][0]


def test_labels_can_be_text_or_absent_and_numbers_are_ordered_by_value(network, blobs):
    names = ["ten", 10, 9, "", None, 100]
    labelled = Transformed(blobs, lambda index, item: (item[0], names[index % 6]))
    result = mine(network, labelled)
    assert result.image_set.classes == ("9", "10", "100", "ten")
    assert result.image_set.labels[:6] == ("ten", "10", "9", "", "", "100")
    counts = [sum(index % 6 == place for index in range(len(blobs))) for place in (2, 1, 5, 0)]
    assert result["conv1"].statistics.class_images.tolist() == counts


def test_the_random_numbers_of_others_stay_as_they_are(network, blobs):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mine(network, blobs)
    assert torch.equal(torch.rand(2), expected)


# Resuming and merging


def test_mining_resumes_and_gives_the_same_bytes(network, blobs, tmp_path):
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    mine(network, blobs, state=whole, batch_size=4, workers=1)

    class Stops(Blobs):
        def __getitem__(self, index):
            if index == 22 and self.reads > 40:  # after the sixteen items by which it is known, twice
                raise KeyboardInterrupt
            self.reads += 1
            return super().__getitem__(index)

    stops = Stops(SHAPE)
    stops.reads = 0
    with pytest.raises(KeyboardInterrupt):
        mine(network, InputDataset(stops, "Blobs"), state=stopped, batch_size=4, workers=1)
    done = MiningState.load(stopped)
    assert 0 < done.read_count < len(blobs)
    result = mine(network, blobs, state=stopped, batch_size=4, workers=1)
    assert stopped.read_bytes() == whole.read_bytes()
    assert [int(label) for label in result.image_set.labels] == blobs.labels


def test_parts_with_other_classes_merge_to_the_same(network, blobs, tmp_path, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["deconvnet.mining.mine"], "PART_MULTIPLE", 4)
    names = ["bee", "cat", "ant"]
    by_part = InputDataset(Transformed(blobs, lambda index, item: (item[0], names[index // 13])), "parts")
    whole = tmp_path / "whole.safetensors"
    mine(network, by_part, state=whole, batch_size=4, workers=1)
    files = [tmp_path / f"{number}.safetensors" for number in (1, 2, 3)]
    for number, file in enumerate(files, start=1):
        mine_part(network, by_part, file, (number, 3), batch_size=4, workers=1)
    assert MiningState.load(files[0]).classes == ["bee"] or len(MiningState.load(files[0]).classes) < 3
    merged = merge_parts(network, by_part, [files[2], files[0], files[1]])
    assert merged.to_bytes() == whole.read_bytes()


@pytest.mark.parametrize("change", ["name", "length", "item"])
def test_another_data_set_is_not_resumed(network, blobs, tmp_path, change):
    file = tmp_path / "state.safetensors"
    mine(network, InputDataset(blobs, "blobs"), state=file)
    if change == "length":
        blobs = Blobs(SHAPE, 38)
    elif change == "item":
        blobs.inputs[-1, 0, 3, 3] += 1e-3
    with pytest.raises(DeconvnetError, match="other photos"):
        mine(network, InputDataset(blobs, "others" if change == "name" else "blobs"), state=file)


# Errors


def without(_index, item):
    return item[0]


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (
            lambda i, item: torch.randn_like(item[0]),
            r"Item 0 of odd is another one each time it is read: take random transf",
        ),
        (
            lambda i, item: item[0][:, :, :20] if i == 7 else item[0],
            r"Item 7 of odd has the shape \(1, 28, 20\), and the netwo",
        ),
        (lambda i, item: (item[0] * 100).byte(), r"Item 0 of odd is of type torch.uint8, but inputs are floating-point"),
        (lambda i, item: item[0] / (i != 7), r"Item 7 of odd holds NaN or infinite values"),
        (lambda i, item: item[0].numpy(), r"Item 0 of odd is of type ndarray: an item is a tensor"),
        (lambda i, item: {"x": item[0]}, r"Item 0 of odd is of type dict"),
        (lambda i, item: (*item, 3), r"Item 0 of odd has 3 parts"),
        (lambda i, item: (item[0], 0.5), r"Item 0 of odd has a label of type float"),
        (lambda i, item: (item[0], torch.zeros(3)), r"Item 0 of odd has a label of type Tensor"),
        (lambda i, item: item[2], r"Item 0 of odd cannot be read \(IndexError: tuple index out of range\)"),
    ],
    ids=["augmented", "shape", "bytes", "NaN", "array", "dictionary", "three", "fraction", "vector", "raises"],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_no_input_is_refused_by_its_number(network, blobs, function, sentence, workers):
    odd = Transformed(blobs, function)
    with pytest.raises(DeconvnetError, match=sentence) as caught:
        mine(network, InputDataset(odd, "odd", workers=workers))
    assert "\n" not in str(caught.value)


def test_items_of_an_iterable_are_refused_by_their_number(network, blobs):
    with pytest.raises(DeconvnetError, match=r"Item 3 of generator holds NaN"):
        mine(network, (x / (index != 3) for index, x in enumerate(blobs.inputs)))


@pytest.mark.parametrize(
    ("images", "options", "sentence"),
    [
        (lambda blobs: iter(blobs.inputs), {"state": "state.safetensors"}, "cannot resume: leave state out"),
        (lambda blobs: DataLoader(blobs, 4), {}, "loader.dataset"),
        (lambda blobs: 7, {}, "not int"),
        (lambda blobs: Blobs(SHAPE, 0), {}, "has no length or no items"),
        (lambda blobs: blobs, {"batch_size": 0}, "batch_size = 0"),
    ],
)
def test_wrong_use_is_one_sentence(network, blobs, images, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        mine(network, images(blobs), **options)


def test_an_empty_iterable_holds_no_photo(network):
    with pytest.raises(DeconvnetError, match="The list of photos is empty"):
        mine(network, iter(()))


def test_a_network_without_a_preprocessing_refuses_photos(network, photo_folder, tmp_path):
    with pytest.raises(UsageError, match=r"odd has no preprocessing, so it cannot be shown photos: pass a torch\.utils"):
        mine(network, photo_folder)


def test_a_network_with_a_preprocessing_takes_a_data_set_too(small_network, photo_folder):
    by_photo = mine(small_network, photo_folder)
    paths = [path for index, path in enumerate(by_photo.image_set.paths) if index not in by_photo.skipped]
    from deconvnet.data import read_image

    inputs: list[Tensor] = [small_network.preprocess(read_image(photo_folder / path)) for path in paths]
    by_tensor = mine(small_network, inputs)
    for layer in by_photo.layers:
        for unit, hits in enumerate(by_photo[layer]):
            assert [(paths.index(hit.path), hit.row, hit.column) for hit in hits] == [
                (hit.image, hit.row, hit.column) for hit in by_tensor[layer][unit]
            ]
