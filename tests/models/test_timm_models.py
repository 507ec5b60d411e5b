"""timm's models by name: against timm's own builders and transforms. No test leaves this machine."""

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file
from timm.data import ImageNetInfo, create_transform, resolve_model_data_config
from torch import nn

from deconvnet.data import imagenet_classes
from deconvnet.errors import DeconvnetError, UsageError
from deconvnet.models import check_runs_no_code, describe_network, load, timm_models
from helpers.loading import refusal


def trained(model, classes):
    """A module as timm makes it, with statistics as if it had been trained."""
    module = timm.create_model(model, num_classes=classes)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.1, 0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def same_outputs(found, theirs):
    x = torch.randn(1, 3, found.preprocessing.crop, found.preprocessing.crop)
    with torch.no_grad():
        return torch.equal(found.module(x), theirs(x))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A cache of the Hugging Face Hub, empty, and downloads that fail; returns a function that puts a file into it."""
    files = {}

    def download(repository, file):
        raise LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub.\nAnd more.")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda repository, file: files.get((repository, file)))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    def publish(repository, module):
        path = tmp_path / "model.safetensors"
        save_file(module.state_dict(), path)
        files[repository, "model.safetensors"] = str(path)

    return publish


def test_an_untrained_model_is_the_same_every_time_and_shown_what_timm_shows(photo):
    first = load("timm:resnet10t:random")
    assert first.full_name == "timm:resnet10t (untrained, seed 0)"
    assert first.address == "timm:resnet10t:random"
    assert load("timm:resnet10t", "random").digest == first.digest
    assert first.classes == imagenet_classes()
    module = timm.create_model("resnet10t")
    transform = create_transform(**resolve_model_data_config(module), is_training=False)
    torch.testing.assert_close(first.preprocess(photo), transform(photo), atol=1e-5, rtol=0)
    assert [*first.layers][:2] == ["conv1.2", "conv1.5"]


def test_a_file_has_timms_preprocessing_and_its_own_classes(tmp_path, photo):
    theirs = trained("resnet10t", 7)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "mine.pth")
    found = load(f"timm:resnet10t:{tmp_path / 'mine.pth'}")
    assert found.full_name == "timm:resnet10t (mine.pth)"
    assert found.address == f"timm:resnet10t:{tmp_path / 'mine.pth'}"
    assert found.classes is None
    assert found.probabilities(found.preprocess(photo)[None]).shape == (1, 7)
    assert same_outputs(found, theirs)
    assert found.preprocessing.interpolation == "bicubic"


def test_as_many_outputs_as_imagenet_has_are_imagenets_only_where_a_tag_says_so(tmp_path):
    theirs = trained("resnet10t", 1000)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    assert load(f"timm:resnet10t:{tmp_path / 'model.safetensors'}").classes is None
    tagged = load(f"timm:resnet10t.c3_in1k:{tmp_path / 'model.safetensors'}")
    assert tagged.classes == imagenet_classes()
    assert tagged.full_name == "timm:resnet10t.c3_in1k (model.safetensors)"


def test_a_file_without_a_classifier_is_a_trunk(tmp_path):
    theirs = trained("resnet10t", 0)
    save_file(theirs.state_dict(), tmp_path / "trunk.safetensors")
    found = load(f"timm:resnet10t:{tmp_path / 'trunk.safetensors'}")
    assert not found.classifies
    assert same_outputs(found, theirs)


def test_the_description_that_timm_writes_beside_a_file_counts(tmp_path):
    theirs = trained("resnet10t", 3)
    names = {"label_names": ["cat", "dog", "owl"], "label_descriptions": {"owl": "an owl"}}
    data = {
        "mean": (0.5, 0.4, 0.3),
        "std": (0.3, 0.2, 0.1),
        "crop_pct": 0.5,
        "crop_mode": "squash",
        "interpolation": "bilinear",
    }
    timm.models.save_for_hf(theirs, tmp_path, model_config=names, safe_serialization=True)
    description = json.loads((tmp_path / "config.json").read_text())
    description["pretrained_cfg"] |= data
    (tmp_path / "config.json").write_text(json.dumps(description))
    file = tmp_path / "model.safetensors"
    found = load(f"timm:resnet10t:{file}")
    assert found.classes == (("cat", "cat"), ("dog", "dog"), ("owl", "an owl"))
    shown = found.preprocessing
    assert (shown.resize, shown.crop, shown.crop_mode, shown.interpolation) == (352, 176, "squash", "bilinear")
    torch.testing.assert_close(shown.mean.flatten(), torch.tensor(data["mean"]))
    torch.testing.assert_close(shown.std.flatten(), torch.tensor(data["std"]))
    assert same_outputs(found, theirs)
    assert "holds weights of resnet10t: pass timm:resnet10t:PATH" in refusal(f"timm:resnet18:{file}")
    (tmp_path / "config.json").write_text(json.dumps({**description, "model_args": {"output_stride": 8}}))
    assert "a resnet10t made with other arguments ({'output_stride': 8})" in refusal(f"timm:resnet10t:{file}")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    assert "is not what timm writes there (KeyError: 'architecture')" in refusal(f"timm:resnet10t:{file}")


def test_a_file_of_a_model_whose_weights_differ_in_their_mean_needs_a_tag(tmp_path, described):
    theirs = trained("resnet34", 2)
    file = tmp_path / "mine.safetensors"
    save_file(theirs.state_dict(), file)
    sentence = refusal(f"timm:resnet34:{file}")
    assert "timm's own of resnet34 differ in mean and std: say which they are like, as timm:resnet34." in sentence
    assert load(f"timm:resnet34.tv_in1k:{file}").preprocessing.mean.flatten()[0] == torch.tensor(0.485)
    assert load(f"timm:resnet34:{file}", preprocessing=described).preprocessing.crop == 224


def test_a_tag_is_downloaded_only_if_it_is_asked_for(hub):
    assert refusal("timm:resnet10t").startswith("timm:resnet10t has no weights of its own: pass timm:resnet10t:c3_in1k, ")
    sentence = refusal("timm:resnet10t:c3_in1k")
    assert sentence == (
        "model.safetensors of timm/resnet10t.c3_in1k could not be downloaded (An error happened while trying to locate the "
        "file on the Hub.): fetch it on a machine with a network connection and pass timm:resnet10t:PATH."
    )
    assert refusal("timm:resnet10t.c3_in1k").startswith(
        "model.safetensors of timm/resnet10t.c3_in1k could not be downloaded"
    )
    theirs = trained("resnet10t", 1000)
    hub("timm/resnet10t.c3_in1k", theirs)
    found = load("timm:resnet10t:c3_in1k")
    assert found.full_name == "timm:resnet10t (c3_in1k)"
    assert found.address == "timm:resnet10t:c3_in1k"
    assert found.classes == imagenet_classes()
    assert same_outputs(found, theirs)
    assert load("timm:resnet10t.c3_in1k").digest == found.digest


def test_weights_that_are_only_published_as_a_pickle_are_not_downloaded(hub):
    def only_a_pickle(name):
        stated = timm.models.get_pretrained_cfg(name)
        return stated.url and not stated.hf_hub_id

    name, _, tag = next(filter(only_a_pickle, timm.list_models(pretrained=True))).partition(".")
    with pytest.raises(DeconvnetError, match="are not published as a safetensors file"):
        timm_models.weights_of(f"timm:{name}")[tag].download()


def test_a_stranger_may_not_have_a_model_built_or_downloaded(hub):
    with pytest.raises(DeconvnetError, match="is not built unless you ask for it"):
        check_runs_no_code("timm:resnet10t:random")
    with pytest.raises(DeconvnetError, match="have not been downloaded to this machine yet"):
        check_runs_no_code("timm:resnet10t:c3_in1k")
    with pytest.raises(DeconvnetError, match="are not on this machine"):
        check_runs_no_code("timm:resnet10t")
    hub("timm/resnet10t.c3_in1k", trained("resnet10t", 1000))
    check_runs_no_code("timm:resnet10t:c3_in1k")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    torch.save(nn.ReLU(), tmp_path / "a.pth")
    assert "nothing else is loaded, because a pickle can run code" in refusal(f"timm:resnet10t:{tmp_path / 'a.pth'}")


def test_a_model_is_described_by_its_trace_without_being_built_in_memory():
    found = describe_network("timm:resnet18")
    assert found["weights"][-2:] == ["PATH", "random"]
    assert "tv_in1k" in found["weights"]
    assert found["layers"][0] == {"name": "act1", "units": 64, "map": [112, 112], "field": [7, 7]}
    assert len(found["layers"]) == 17
    assert describe_network("timm:resnet18.tv_in1k")["weights"] == ["tv_in1k", "PATH", "random"]


@pytest.mark.parametrize(
    ("name", "saying"),
    [
        ("timm:resnet19", "timm has no model 'resnet19': did you mean resnet18, "),
        ("timm:", "timm has no model ''"),
        ("timm:resnet10t.nothing", "timm has no weights 'nothing' of resnet10t: there are c3_in1k"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", "timm has no model 'hf-hub'"),
    ],
)
def test_an_unknown_model_is_named(name, saying):
    with pytest.raises(UsageError, match=saying):
        load(name)


def test_timm_counts_imagenets_classes_as_we_do():
    assert ImageNetInfo().label_names() == [wordnet_id for wordnet_id, _ in imagenet_classes()]


def test_classes_of_larger_sets_have_their_names():
    tag, file = next(
        (tag, file) for tag, file in timm_models.weights_of("timm:resnetv2_50x1_bit").items() if tag.endswith("in21k")
    )
    assert tag == "goog_in21k"
    assert len(file.metadata["classes"]) == 21843
    assert file.metadata["classes"][0][0].startswith("n0")


def test_timm_is_not_imported_before_it_is_needed():
    code = "import sys, deconvnet; deconvnet.load('zfnet'); sys.exit('timm' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
