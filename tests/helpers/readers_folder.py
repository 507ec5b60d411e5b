"""The folder that a reader of the documentation is assumed to sit in: photos, networks, what earlier pages have made.

All is made of scikit-image's photos, tiny, once for all tests.
"""

import json
import os
import shutil
from pathlib import Path

from deconvnet.atlas import Atlas
from deconvnet.data import find_images, find_splits, pack
from deconvnet.demo_images import demo_image, write_views
from deconvnet.mining import mine_part
from deconvnet.models import load
from deconvnet.training import train
from helpers.shown_code import ROOT

#: The recipe that pages call quick.toml, quicker: two or three steps, next to nothing in the fully connected layers.
RECIPE = """
epochs = 1
batch_size = 2
learning_rate = 1e-3
initial = "he"
deviation = 58.0

[network]
hidden = 8
"""

#: scikit-image's photos by the class folders that they stand for, and WordNet ids that all networks know.
CLASSES = {"cat": "chelsea", "dog": "astronaut", "church": "coffee"}
IDS = ("n01440764", "n02102040", "n03028079")

#: A network in a file of one's own.
OWN = """import deconvnet


def {function}():
    return deconvnet.Network(deconvnet.load("zfnet").module, deconvnet.torchvision_preprocessing(resize=256, crop=224))
"""

#: The eyes and the nose of scikit-image's cat, in pixels.
PARTS = {"left_eye": (178, 112), "right_eye": (280, 116), "nose": (234, 172)}


def make_folder(folder: Path, weights: dict[str, Path]) -> None:
    """Everything that pages assume, under the names that they use; `weights` are files for alexnet2012 and zfnet."""
    folder.mkdir()
    _photos(folder)
    _cats(folder / "cats")
    shutil.copy(folder / "cats" / "cats.csv", folder / "cats.csv")
    for name in ("packed", "imagenet-256", "imagenette-256"):
        pack(find_splits(folder / "imagenette"), folder / name, workers=1)
    (folder / "quick.toml").write_text(RECIPE)
    for function, file in (("net", "mine.py"), ("mine", "net.py")):
        (folder / file).write_text(OWN.format(function=function))
    _runs(folder)
    _atlases(folder)
    shutil.copy(weights["alexnet2012"], folder / "weights.safetensors")
    for name in ("src", "docs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)


def copy_folder(folder: Path, to: Path) -> None:
    """The same files in folders of their own, so that no page finds what another has made."""
    shutil.copytree(folder, to, copy_function=os.link, symlinks=True)


def _photos(folder: Path) -> None:
    """dog.jpg, church.jpg, photos/ by class, and ImageNet's sets train and val by WordNet id, under all its names."""
    for number, (label, name) in enumerate(CLASSES.items()):
        photo = demo_image(name)
        photo.resize((300, 300 * photo.height // photo.width)).save(_parent(folder / f"{label}.jpg"))
        for view in range(2):
            width = photo.width - 20 * view
            cut = photo.crop((10 * view, 0, 10 * view + width, width * 3 // 4)).resize((280, 210))
            cut.save(_parent(folder / "photos" / label / f"{view}.jpg"))
            for data in ("imagenet", "imagenette", "ilsvrc2012"):
                cut.save(_parent(folder / data / "train" / IDS[number] / f"{view}.jpg"))
                if view:
                    cut.save(_parent(folder / data / "val" / IDS[number] / "9.jpg"))
            cut.save(_parent(folder / "imagenet-sample" / IDS[number] / f"{view}.jpg"))


def _cats(folder: Path) -> None:
    """Three cuts of one cat, and where its parts are in them, as JSON and as CSV."""
    cat, rows, found = demo_image("chelsea"), ["image,part,x,y"], {}
    for number, (left, top) in enumerate(((0, 0), (30, 10), (60, 5))):
        cat.crop((left, top, left + 390, top + 285)).save(_parent(folder / f"{number}.jpg"))
        parts = {part: [x - left, y - top] for part, (x, y) in PARTS.items()}
        found[f"{number}.jpg"] = parts
        rows += [f"{number}.jpg,{part},{x},{y}" for part, (x, y) in parts.items()]
    (folder / "landmarks.json").write_text(json.dumps(found))
    (folder / "cats.csv").write_text("\n".join(rows) + "\n")


def _runs(folder: Path) -> None:
    for network in ("zfnet", "alexnet2012"):
        train(network, folder / "packed", folder / "runs" / network, folder / "quick.toml", workers=1)
    for name in ("run", "run-1", "run-2"):
        shutil.copytree(folder / "runs" / "zfnet", folder / name)


def _atlases(folder: Path) -> None:
    """What `deconvnet demo`, `atlas` and `mine` leave, of a unit for each layer."""
    write_views(folder / "demo" / "photos")
    for name in ("alexnet2012", "zfnet"):
        net = load(name)
        Atlas.build(net, folder / "demo" / "photos", folder / "demo" / name, units=[0], workers=1)
    photos, net = find_images(folder / "photos"), load("zfnet")
    Atlas.build(net, photos, folder / "atlas", units=[0], workers=1)
    for number in (1, 2):
        mine_part(net, photos, folder / f"half-{number}.safetensors", (number, 2), workers=1)


def _parent(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file
