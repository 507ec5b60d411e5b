"""Published weights: recognised by digest, fetched once, checked always. No test leaves this machine."""

import errno
import hashlib
import os
import socket
import zipfile
from http.client import IncompleteRead
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import load, loading, pretrained, registry
from deconvnet.models.pretrained import PRETRAINED, PretrainedFile
from deconvnet.models.weights_metadata import check_options, parse_metadata

ENTRIES = {"weights": "somebody's", "resize": 256, "crop": 224, "channels": "RGB", "scale": 1, "mean": [0.1, 0.2, 0.3]}


@pytest.fixture
def cache(tmp_path):
    """torch.hub's cache in a folder of its own."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.fixture
def publish(monkeypatch):
    """A function that makes a file (or an address) the published weights `zfnet:theirs`."""

    def make(url, sha256, sha1=""):
        row = PretrainedFile("zfnet", "theirs.safetensors", sha256, ENTRIES, "theirs", url, sha1)
        monkeypatch.setattr(registry, "PRETRAINED", (row,))

    return make


@pytest.fixture
def theirs(trunk, tmp_path):
    """A weights file on somebody's server."""
    file = tmp_path / "server" / "theirs.safetensors"
    file.parent.mkdir()
    save_file(trunk.module.state_dict(), file)
    return file


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def refusal(*arguments):
    with pytest.raises(DeconvnetError) as caught:
        load(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("digits", [8, 64])
def test_a_download_is_described_by_its_row_and_kept(theirs, cache, publish, trunk, digits):
    publish(theirs.as_uri(), digest(theirs)[:digits])
    found = load("zfnet:theirs")
    assert torch.equal(found.module.conv3.weight, trunk.module.conv3.weight)
    assert found.weights == "somebody's"
    assert found.preprocessing.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert [file.name for file in cache.iterdir()] == ["theirs.safetensors"]

    theirs.unlink()  # from now on only the cache has it
    assert load("zfnet", "theirs").digest == found.digest


def test_what_somebody_else_published_has_to_be_asked_for(theirs, cache, publish, monkeypatch):
    publish(theirs.as_uri(), digest(theirs))
    assert load("zfnet").weights.startswith("Imagenette")  # what comes along goes before
    monkeypatch.setattr(registry, "BUNDLED", {})
    with pytest.raises(UsageError, match="pass zfnet:theirs, zfnet:PATH, or zfnet:random"):
        load("zfnet")


@pytest.mark.parametrize(("name", "file"), [("alexnet", "alexnet-owt"), ("torchvision:vgg11", "vgg11-8a719046")])
def test_torchvisions_networks_come_with_torchvisions_weights(name, file, monkeypatch):
    asked = []
    monkeypatch.setattr(loading, "download", lambda row: asked.append(row.file) or Path("nowhere.pth"))
    with pytest.raises(DeconvnetError, match="There is no file nowhere"):
        load(name)
    assert asked[0].startswith(file)


def test_a_download_with_another_digest_is_not_kept(theirs, cache, publish):
    publish(theirs.as_uri(), "0" * 64)
    sentence = refusal("zfnet:theirs")
    assert sentence.startswith(f"{theirs.as_uri()} did not arrive as its publisher made it")
    assert list(cache.iterdir()) == []


def test_a_download_without_connection_says_what_to_do(cache, publish, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"http://127.0.0.1:{port}/theirs.safetensors"
    publish(url, "0" * 64)
    sentence = refusal("zfnet:theirs")
    assert sentence.startswith(f"{url} could not be downloaded (")
    assert sentence.endswith("fetch it on a machine with a network connection and pass zfnet:PATH.")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_or_closed_disk_is_not_blamed_on_the_network(cache, publish, monkeypatch, number):
    def fail(url, target):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    publish("http://nowhere.invalid/theirs.safetensors", "0" * 64)
    assert refusal("zfnet:theirs") == f"{cache / 'theirs.safetensors'} cannot be written: {os.strerror(number)}."


@pytest.mark.parametrize("error", [ConnectionResetError("reset"), TimeoutError("slow"), IncompleteRead(b"")])
def test_a_connection_that_breaks_is(cache, publish, monkeypatch, error):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda url, target: (_ for _ in ()).throw(error))
    publish("http://nowhere.invalid/theirs.safetensors", "0" * 64)
    assert "fetch it on a machine with a network connection" in refusal("zfnet:theirs")


def test_a_file_that_is_not_on_the_server_any_more_says_so(tmp_path, cache, publish):
    publish((tmp_path / "gone.safetensors").as_uri(), "0" * 64)
    assert "could not be downloaded" in refusal("zfnet:theirs")


def test_a_damaged_cache_is_noticed_at_the_next_use(theirs, cache, publish):
    publish(theirs.as_uri(), digest(theirs))
    load("zfnet:theirs")
    kept = cache / "theirs.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    sentence = refusal("zfnet:theirs")
    assert f"{kept} does not have the checksum that its publisher states" in sentence
    assert digest(kept)[:8] in sentence


def test_a_published_file_is_recognised_whatever_it_is_called(theirs, publish):
    publish("", digest(theirs))
    renamed = theirs.rename(theirs.with_name("renamed.safetensors"))
    assert load("zfnet", renamed).weights == "somebody's"
    assert "holds weights of zfnet, not of alexnet: pass zfnet:" in refusal("alexnet", renamed)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": '"BGR"', "mean": [0.3, 0.2, 0.1]},  # the same mean, other filters
        {"scale": 255},
        {"mean": [0.1, 0.2, 0.35]},
        {"mean": [0.3, 0.2, 0.1]},
        {"std": 0.5},
    ],
    ids=str,
)
def test_a_description_that_contradicts_the_row_is_refused(theirs, publish, tmp_path, changes):
    publish("", digest(theirs))
    said = {"resize": 256, "crop": 224, "channels": '"RGB"', "scale": 1, "mean": [0.1, 0.2, 0.3], **changes}
    (tmp_path / "d.toml").write_text("".join(f"{name} = {value}\n" for name, value in said.items()))
    sentence = refusal("zfnet", theirs, tmp_path / "d.toml")
    assert sentence.startswith(f"{tmp_path / 'd.toml'} contradicts what is known of theirs.safetensors, which {theirs} is")
    assert sentence.endswith("leave --preprocessing out.")


def test_a_description_that_says_the_same_otherwise_wins_over_the_row(theirs, publish, tmp_path):
    publish("", digest(theirs))
    (tmp_path / "d.toml").write_text(
        'resize = 230\ncrop = 224\nchannels = "RGB"\nscale = 255\nmean = [26, 51, 76]\nstd = 255\nweights = "other"\n'
    )
    found = load("zfnet", theirs, tmp_path / "d.toml")
    assert (found.preprocessing.resize, found.weights) == (230, "other")


# Downloads in an archive


@pytest.fixture
def zipped(theirs):
    """The file in an archive, beside others that nobody asked for."""
    archive = theirs.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("../above", "nothing good")
        opened.write(theirs, theirs.name)
    return archive


def test_an_archive_is_unpacked_and_its_file_checked(theirs, zipped, cache, publish, trunk):
    publish(zipped.as_uri(), "", hashlib.sha1(theirs.read_bytes()).hexdigest())
    assert torch.equal(load("zfnet:theirs").module.conv3.weight, trunk.module.conv3.weight)
    assert [file.name for file in cache.iterdir()] == ["theirs.safetensors"]
    assert not (cache.parent / "above").exists()
    zipped.unlink()
    assert load("zfnet:theirs").weights == "somebody's"

    kept = cache / "theirs.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1] + b"!")
    assert "does not have the checksum that its publisher states (SHA-1 " in refusal("zfnet:theirs")


def shortened(archive):
    archive.write_bytes(archive.read_bytes()[:-1000])


def with_a_wrong_byte(archive):
    whole = bytearray(archive.read_bytes())
    whole[len(whole) // 2] ^= 255
    archive.write_bytes(whole)


def without_the_file(archive):
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("another.safetensors", "")


def with_another_file(archive):
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("theirs.safetensors", "other weights")


@pytest.mark.parametrize("change", [shortened, with_a_wrong_byte, without_the_file, with_another_file])
def test_an_archive_that_is_not_what_its_publisher_made_leaves_nothing(theirs, zipped, cache, publish, change):
    publish(zipped.as_uri(), "", hashlib.sha1(theirs.read_bytes()).hexdigest())
    change(zipped)
    assert refusal("zfnet:theirs").startswith(f"{zipped.as_uri()} did not arrive as its publisher made it (")
    assert list(cache.iterdir()) == []


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(theirs, zipped, cache, publish, monkeypatch):
    publish(zipped.as_uri(), "", hashlib.sha1(theirs.read_bytes()).hexdigest())
    monkeypatch.setattr(pretrained, "_MAX_UNPACKED", theirs.stat().st_size - 1)
    assert "it unpacks to more than any of these weights take" in refusal("zfnet:theirs")
    assert list(cache.iterdir()) == []


# The table


@pytest.mark.parametrize("row", PRETRAINED, ids=lambda row: row.file)
def test_a_published_name_with_other_contents_is_refused(tmp_path, row):
    file = tmp_path / row.file
    file.write_bytes(b"something else")
    sentence = refusal(row.network, file)
    assert f"{file} does not have the checksum that its publisher states" in sentence
    if row.sha256:
        assert f"(SHA-256 {digest(file)[:8]}…, not {row.sha256[:8]}…)" in sentence
    else:
        assert f"(SHA-1 {hashlib.sha1(file.read_bytes()).hexdigest()[:8]}…, not {row.sha1[:8]}…)" in sentence
    assert "delete it and fetch it again, or rename it" in sentence


@pytest.mark.parametrize("row", PRETRAINED, ids=lambda row: row.file)
def test_every_row_is_sound(row):
    assert row.network in registry.ARCHITECTURES
    architecture, metadata = registry.ARCHITECTURES[row.network], parse_metadata(row.metadata, row.file)
    check_options(architecture.options, metadata.options, row.file)
    assert metadata.preprocessing.crop == architecture.preprocessing.crop
    assert bool(row.keyword) == bool(row.url)
    assert (len(row.sha256), len(row.sha1)) in ((8, 0), (64, 0), (0, 40))
    if len(row.sha256) == 8:  # torch.hub's way: the digest's first digits stand in the file's name
        assert row.file.endswith(f"-{row.sha256}.pth")
