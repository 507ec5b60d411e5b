"""Which network belongs to an atlas, and which networks of strangers' atlases are loaded."""

import json
import os
import shlex
import shutil
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from deconvnet import Atlas, DeconvnetError, UsageError, load
from deconvnet.atlas import tables
from deconvnet.atlas.html import page_files
from deconvnet.data import torchvision_preprocessing
from deconvnet.explorer.app_state import Explorer
from deconvnet.explorer.served_networks import find_models
from deconvnet.models import AlexNet2012, AlexNetOptions, Network, check_runs_no_code, loading, save_weights
from helpers.exploring import Client


@pytest.fixture
def weights(tmp_path):
    module = AlexNet2012(AlexNetOptions(classes=3, hidden=8)).eval()
    network = Network(module, torchvision_preprocessing(256, 227), name="alexnet2012", weights="tiny")
    file = tmp_path / "tiny.safetensors"
    save_weights(network, file, torch.float32)
    return file


def rewrite_description(folder, **entries):
    """Change entries of "network" in `atlas.json`; None removes one."""
    file = folder / "atlas.json"
    description = json.loads(file.read_text())
    network = description["network"] | entries
    description["network"] = {name: value for name, value in network.items() if value is not None}
    file.write_text(json.dumps(description))
    return folder


def test_addresses_that_load_gives(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load("zfnet").address == "zfnet:imagenette"
    assert load("zfnet:random").address == "zfnet:random"
    assert load("alexnet2012:tiny.safetensors").address == f"alexnet2012:{weights}"
    assert load("alexnet2012", "tiny.safetensors").address == f"alexnet2012:{weights}"
    assert load("torchvision:squeezenet1_1:random").address == "torchvision:squeezenet1_1:random"
    (tmp_path / "own.py").write_text("import deconvnet\ndef net():\n    return deconvnet.load('zfnet:random')\n")
    assert load("own.py:net").address == f"{tmp_path / 'own.py'}:net"
    for address in ("zfnet:random", f"alexnet2012:{weights}"):
        reloaded = load(address)
        assert (reloaded.address, reloaded.digest) == (address, load(address).digest)


def test_what_may_be_loaded_unasked(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)  # another test may have set it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit")
    for address in ("zfnet:imagenette", "zfnet:random", f"alexnet2012:{weights}"):
        check_runs_no_code(address)
    for address in (
        f"{tmp_path}/evil.py:net",
        "evil.py:net",
        "evil.py",
        "alexnet:imagenet1k",
        "alexnet",
        "torchvision:resnet18",
        "torchvision:resnet18:IMAGENET1K_V1",
        "zfnet:pytorchcv",
        "zfnet:tiny.safetensors",
        "zfnet:/nothing.safetensors",
        "zfnet:/dev/zero",
        "zfnet://somewhere/else.safetensors",
        "zfnet:\\\\somewhere\\else.safetensors",
        f"zfnet:/{weights}",
        f"zfnet:{tmp_path}",
        f"zfnet:{tmp_path}/evil.py",
        "zfnet:/proc/version",
        "zfnet:/" + "a" * 5000,
        "zfnet:/\0",
        "zfnet512",
        "nothing:random",
        "torchvision:nothing:random",
        "torchvision:resnet18:random",
        "",
        ":",
    ):
        with pytest.raises(DeconvnetError):
            check_runs_no_code(address)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "alexnet-owt-7be5be79.pth").write_bytes(b"")
    check_runs_no_code("alexnet:imagenet1k")
    (cache / "resnet18-f37072fd.pth").write_bytes(b"")
    check_runs_no_code("torchvision:resnet18:IMAGENET1K_V1")


def test_networks_are_matched_by_digest(folder, network, tmp_path):
    second = shutil.copytree(folder, tmp_path / "other" / "little atlas")
    third = shutil.copytree(folder, tmp_path / "Größe ☃")
    other_network = Network(load("zfnet:random").module, load("zfnet:random").preprocessing, name="torchvision:other")
    models = find_models([folder, second, third], [other_network, network])
    assert [model.key for model in models] == ["little-atlas", "little-atlas-2", "Gr-e", "torchvision-other"]
    assert len({id(model.loaded) for model in models[:3]}) == 1
    assert models[0].loaded.network is network
    assert models[3].atlas is None
    assert models[3].loaded.network is other_network


def test_an_atlas_finds_its_network(photo_folder, weights, tmp_path):
    network = load(f"alexnet2012:{weights}")
    folder = Atlas.build(network, photo_folder, tmp_path / "atlas", layers=["conv1"], units=[0], top=1).folder
    rewrite_description(folder, address=network.address)
    (model,) = find_models([folder], [])
    assert model.unavailable_reason is None
    assert model.loaded.network.digest == network.digest
    rewrite_description(folder, digest="0" * 64)
    (model,) = find_models([folder], [])
    assert model.loaded is None
    assert "have changed since the atlas was made" in model.unavailable_reason
    weights.write_bytes(weights.read_bytes()[:-10])
    (model,) = find_models([folder], [])
    assert model.loaded is None
    assert model.unavailable_reason.endswith("Pass --network and, for weights that it describes, --preprocessing.")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "does not say where its network is"),
        ("{folder}/evil.py:net", "is not run unless you ask for it. To use it, pass --network"),
        ("alexnet:imagenet1k", "have not been downloaded to this machine yet. To use it, pass --network"),
        ("torchvision:resnet18", "have not been downloaded to this machine yet"),
        ("zfnet:/gone.safetensors", "Its weights, /gone.safetensors, are not on this machine."),
        ("zfnet:random", "have changed since"),
        ("nothing", "There is no network 'nothing'"),
    ],
)
def test_an_atlas_of_a_stranger(folder, address, message, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("it ran a program or used the network connection")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)  # another test may have set it
    monkeypatch.setattr(loading, "load_user_network", never)
    monkeypatch.setattr(loading, "download", never)
    (folder / "evil.py").write_text("raise SystemExit")
    rewrite_description(folder, address=address and address.format(folder=folder))
    explorer = Explorer(find_models([folder], []))
    client = Client(explorer)
    (entry,) = client.get("/api/networks").json()
    assert message in entry["reason"]
    assert (entry["name"], entry["layers"], entry["classifies"], entry["atlas"]) == (
        "small (random)",
        [],
        False,
        "little-atlas",
    )
    assert client.get("/atlas/little-atlas/index.html").content == page_files(folder)["index.html"]
    assert client.get("/atlas/little-atlas/filters.png").status_code == 200
    answer = client.get("/api/photos/x/little-atlas")
    assert (answer.status_code, answer.json()) == (404, {"error": entry["reason"]})
    client.close()
    explorer.close()


def test_an_atlas_whose_description_is_hostile(folder, network, photo_folder):
    """Names of layers, and of the network, are not used as paths or as anything but text."""
    file = folder / "atlas.json"
    description = json.loads(file.read_text())
    description["layers"][0]["name"] = "../../photos/ant"
    description["network"]["full_name"] = "<script>\ud800\x1b[2J"
    file.write_text(json.dumps(description))
    explorer = Explorer(find_models([folder], []))
    client = Client(explorer)
    assert client.get("/api/networks").json()[0]["name"] == "<script>\ud800\x1b[2J"
    assert client.get("/atlas/little-atlas/..%2F..%2Fphotos/ant/00.png").status_code == 404
    client.close()
    explorer.close()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        "[" * 100_000,
        '{"format": 2}',
        '{"format": 2, "network": []}',
        '{"format": 2, "network": {"full_name": 1, "digest": 2}, "layers": []}',
        *(
            f'{{"format": 2, "network": {{"full_name": "a", "digest": "b"}}, "layers": {layers}}}'
            for layers in (
                "3",
                '["x"]',
                '[{"name": "a"}]',
                '[{"name": [1], "chosen": "all"}]',
                '[{"name": "a", "chosen": NaN}]',
                '[{"name": "a", "chosen": [1.5]}]',
            )
        ),
    ],
)
def test_what_is_no_atlas(folder, content):
    (folder / "atlas.json").write_text(content)
    with pytest.raises(DeconvnetError, match=r"^(There is no atlas in|The atlas in) .*little atlas"):
        find_models([folder], [])
    with pytest.raises(DeconvnetError, match="There is no atlas"):
        find_models([folder / "conv1"], [])


def test_a_network_whose_output_is_no_class_scores(small_network):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    (model,) = find_models([], [Network(module.eval(), torchvision_preprocessing(32, 32), name="maps")])
    assert model.as_json()["classifies"] is False
    with pytest.raises(UsageError):
        load("nothing")


@pytest.mark.parametrize("file", ["hits.csv", "units.csv", "images.csv", "classes.npz"])
@pytest.mark.parametrize("content", [b"", b"layer,unit\nconv1,x\n", b"\xff\xfe\x00"])
def test_damaged_tables_are_one_sentence(folder, network, file, content):
    (folder / file).write_bytes(content)
    explorer = Explorer(find_models([folder], [network]))
    client = Client(explorer)
    answer = client.get("/atlas/little-atlas/index.html")
    assert answer.status_code in (200, 500)
    if answer.status_code == 500:
        assert answer.json()["error"].startswith(f"The atlas in {folder} is damaged, so make it again")
    assert client.get("/").status_code == 200
    client.close()
    explorer.close()


def test_pipes_in_place_of_tables_hold_nothing_up(folder, network, tmp_path):
    atlas_copy = shutil.copytree(folder, tmp_path / "other")
    for file in ("units.csv", "classes.npz"):
        (atlas_copy / file).unlink()
        os.mkfifo(atlas_copy / file)
    explorer = Explorer(find_models([atlas_copy], [network]))
    client = Client(explorer)
    assert client.get("/atlas/other/index.html").status_code == 500
    client.close()
    explorer.close()
    (folder / "atlas.json").unlink()
    os.mkfifo(folder / "atlas.json")
    with pytest.raises(DeconvnetError, match="There is no atlas"):
        find_models([folder], [])


def test_a_zip_bomb_is_not_unpacked(folder, monkeypatch):
    monkeypatch.setattr(tables, "_MAX_BYTES", 10_000_000)
    with zipfile.ZipFile(folder / "classes.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("classes.npy", bytes(20_000_000))
    assert (folder / "classes.npz").stat().st_size < 100_000
    with pytest.raises(DeconvnetError, match=r"classes\.npz is larger than"):
        page_files(folder)


@pytest.mark.parametrize(
    "metadata",
    [
        '{"format": 1, "mean": ' + "[" * 100_000,
        '{"mean": 1e400}',
        '{"options": {"middle": [1e30]}}',
        '{"mean": "/dev/zero"}',
    ],
)
def test_weights_of_a_stranger_do_not_stop_the_others(folder, photo_folder, tmp_path, metadata):
    entries = {"format": 1, "network": "zfnet", "resize": 256, "crop": 224, "channels": "RGB", "scale": 255, "mean": 0}
    if metadata.endswith("}"):
        metadata = json.dumps({**entries, **json.loads(metadata)})
    file = tmp_path / "theirs.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, file, {"deconvnet": metadata})
    rewrite_description(folder, address=f"zfnet:{file}")
    (model,) = find_models([folder], [])
    assert model.loaded is None
    assert str(file) in model.unavailable_reason


def test_advice_can_be_pasted_into_a_shell(folder):
    rewrite_description(folder, address="x'; touch pwned; '.py:f")
    (model,) = find_models([folder], [])
    assert shlex.split(model.unavailable_reason)[-7:-5] == ["--network", "x'; touch pwned; '.py:f,"]
