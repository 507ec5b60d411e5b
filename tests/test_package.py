"""What is built: the source distribution, the wheel, and the wheel that is made of the source distribution."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import deconvnet
from deconvnet.cli.app import app
from deconvnet.models.bundled import BUNDLED

ROOT = Path(__file__).parents[1]
VERSION = deconvnet.__version__


def build(source: Path, kind: str, out: Path) -> Path:
    # `python -m build` or `uv build` do the same, in an environment for which they want a network.
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    (archive_file,) = out.iterdir()
    return archive_file


def checksums(wheel: zipfile.ZipFile) -> dict[str, int]:
    return {file.filename: file.CRC for file in wheel.infolist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        yield archive


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, and the folder that it unpacks to."""
    archive_file, folder = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist")), tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive_file) as archive:
        archive.extractall(folder, filter="data")
    return archive_file, folder / f"deconvnet-{VERSION}"


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    source = ROOT / "src"
    files = {
        file.relative_to(source).as_posix()
        for file in (source / "deconvnet").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    for file in (
        "py.typed",
        "atlas/web/index.html",
        "explorer/live/index.html",
        *(f"models/bundled/{name}-{weights}/weights.safetensors" for name, weights in BUNDLED.items()),
    ):
        assert f"deconvnet/{file}" in files
    names = ("METADATA", "WHEEL", "entry_points.txt", "RECORD", "licenses/LICENSE")
    assert set(wheel.namelist()) == files | {f"deconvnet-{VERSION}.dist-info/{name}" for name in names}


def test_the_wheel_of_the_source_distribution_is_the_same(wheel, sdist, tmp_path):
    with zipfile.ZipFile(build(sdist[1], "wheel", tmp_path)) as other_wheel:
        assert checksums(other_wheel) == checksums(wheel)


def test_the_source_distribution_is_a_clone_without_what_lies_about(sdist):
    archive_file, folder = sdist
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    added = {"pyproject.toml", ".gitignore", "PKG-INFO"}
    assert {file.name for file in folder.iterdir()} == {name.removeprefix("/") for name in included} | added
    files = {file: file.stat().st_size for file in folder.rglob("*") if file.is_file()}
    stray = [file for file in files if file.suffix in (".pyc", ".npy", ".png") and "fixtures" not in file.parts]
    assert not stray
    assert sum(size for file, size in files.items() if file.suffix != ".safetensors") < 8e6
    assert archive_file.stat().st_size < 30e6


def test_what_a_package_index_is_told(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    metadata = message_from_bytes(wheel.read(f"deconvnet-{VERSION}.dist-info/METADATA"))
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("deconvnet", VERSION, ">=3.11")
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert metadata["Summary"] == project["description"]
    classified = metadata.get_all("Classifier")
    assert all(f"Programming Language :: Python :: 3.{minor}" in classified for minor in (11, 12, 13))
    required = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    assert sorted(required) == project["dependencies"]
    assert len(required) <= 12
    assert set(metadata.get_all("Provides-Extra")) == {"all", "explore", "onnx", "report", "timm", "train"}
    assert wheel.read(f"deconvnet-{VERSION}.dist-info/entry_points.txt").decode().split("\n", 1) == [
        "[console_scripts]",
        "deconvnet = deconvnet.cli:main\n",
    ]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload(decode=True) == (ROOT / "DESCRIPTION.md").read_bytes()


def test_the_description_stands_alone_and_its_commands_exist():
    text = (ROOT / "DESCRIPTION.md").read_text()
    assert "](" not in text  # a link or a picture that would lead nowhere
    commands = {command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"^deconvnet (\w+)", text, re.MULTILINE)) <= commands


def test_the_version_is_the_same_everywhere():
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert f"\nversion: {VERSION}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == VERSION
