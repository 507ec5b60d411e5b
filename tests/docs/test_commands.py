"""Every command and every piece of Python that the documentation shows is run, page by page, in a reader's folder.

A command runs exactly as it is typed, but for what the tables below say, and everything in them has to be needed: what is
no longer shown anywhere has to go from here as well. What `--help` shows is run too, a page for each command.

Two things are smaller everywhere: the networks that come along have few maps in each layer, and `demo` cuts large views
only. `torchrun` is one process here, and once two; scripts of benchmarks/ are given their arguments and not run.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from functools import cache
from pathlib import Path

import pytest
import typer

from deconvnet.cli.app import app
from helpers.readers_folder import copy_folder, make_folder
from helpers.shown_code import ROOT, Shown, pages, shown_on
from helpers.thin_networks import use_thin_networks, write_thin_weights
from helpers.typing_commands import DoesNotWork, as_one_process, remove_result, type_command, words_of

TRUNK = "alexnet2012:bvlc_alexnet_trunk.safetensors"

#: What stands in a command or in Python, what is run instead, and why.
INSTEAD = {
    # Downloads.
    "alexnet:imagenet1k": ("zfnet", "a download of 233 MB"),
    'load("alexnet", weights="imagenet1k")': ('load("zfnet")', "the same in Python"),
    "zfnet:pytorchcv": ("zfnet", "a download of 250 MB"),
    '--label "African crocodile"': (
        "--label tench",
        "alexnet:imagenet1k knows this class; zfnet, which stands for it, does not",
    ),
    '--label "Pomeranian"': ("--label tench", "likewise"),
    # Files that cannot be shipped.
    TRUNK: ("alexnet2012", "a file that does not come along; where it is, see below"),
    # Words in capitals, which a reader replaces.
    "NETWORK PHOTO…": ("zfnet dog.jpg church.jpg", "what to type is described"),
    "NETWORK PHOTOS LANDMARKS": ("zfnet cats/ cats/landmarks.json", "likewise"),
    "zfnet PHOTOS": ("zfnet photos/", "likewise"),
    "--others PHOTOS": ("--others photos/", "likewise"),
    "evolve RUN": ("evolve run/", "likewise"),
    "ablate DATA": ("ablate packed/", "likewise"),
    # Hours of training.
    "--recipe paper": ("--recipe quick.toml", "two steps in place of 70 epochs"),
    "--recipe fast": ("--recipe quick.toml", "two steps in place of 30 epochs"),
    "--train paper": ("--train quick.toml", "likewise"),
    "--recipe src/deconvnet/models/bundled/recipe.toml": ("--recipe quick.toml", "two steps in place of 25 epochs"),
    # Pictures of fewer units.
    "--units 0-15": ("--units 0-1", "fewer units"),
    # Another machine.
    "--device cuda": ("--device cpu", "a GPU"),
    # Python that says less than would run, and work that takes long.
    '"photos/", "atlas/")': (
        '"photos/", "new-atlas/", ["conv5"], range(16))',
        "fewer units, in a folder that is not there yet",
    ),
    "module = ...  #": ('module = deconvnet.load("zfnet").module  #', "what a reader has"),
}

#: Options that make a command short, unless it has them: of every command that makes something.
SHORTER = {
    "atlas": ("--units 0", "one unit of each layer in place of all"),
    "merge": ("--units 0", "likewise"),
    "demo": ("--units 0", "likewise"),
    "train": ("--recipe quick.toml", "two steps in place of 70 epochs"),
    "ablate": ("--recipe quick.toml --only alexnet2012-no34", "one network in place of twelve"),
    "occlude": ("--stride 58", "16 positions in place of 900"),
    "sanity": ("--draws 2 --stride 58 --rules deconvnet", "fewer draws and positions, one rule set"),
    "correspond": ("--permutations 99", "of 9,999"),
    "evolve": ("--units 2", "of 6"),
    "compare": ("--units 2", "of 15"),
    "reproduce": ("--only fig-3", "one part, which takes no time; tests/report makes all of them"),
}

#: Python that is put into a file by a reader, by a line of it.
FILES = {"def net():": "mine.py"}


@cache
def everything() -> tuple[Shown, ...]:
    helps = [
        Shown(f"deconvnet {name} --help", number, "command", line)
        for name, command in typer.main.get_command(app).commands.items()
        for number, line in enumerate(re.findall(r"`(.+?)`", command.epilog or ""), start=1)
    ]
    return tuple(shown for page in pages() for shown in shown_on(page)) + tuple(helps)


def instead(text: str, kept: str = "") -> str:
    for part, (other, _) in INSTEAD.items():
        if part != kept:
            text = text.replace(part, other)
    return text


def shorter(words: list[str]) -> list[str]:
    """The words of a command that makes something, and those that make it short."""
    more = SHORTER.get(words[1], ("", ""))[0].split() if words[0] == "deconvnet" and makes(words) else []
    pairs = zip(more[::2], more[1::2], strict=True)
    return words + [word for option, value in pairs if option not in words for word in (option, value)]


def makes(words: list[str]) -> bool:
    return "--out" in words or words[1] == "demo"


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """The reader's folder, made once, and the weights of the networks in it."""
    top = tmp_path_factory.mktemp("documentation")
    weights = write_thin_weights(top)
    with pytest.MonkeyPatch.context() as patched:
        use_thin_networks(patched, weights)
        patched.setattr("deconvnet.demo_images.SCALES", (1.0,))
        make_folder(top / "reader", weights)
    return top / "reader", weights


@pytest.fixture
def folder(originals, tmp_path, monkeypatch):
    """A folder for one page."""
    folder, (original, weights) = tmp_path / "reader", originals
    use_thin_networks(monkeypatch, weights)
    monkeypatch.setattr("deconvnet.demo_images.SCALES", (1.0,))
    copy_folder(original, folder)
    monkeypatch.chdir(folder)
    return folder


# Of the servers that are stopped.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", dict.fromkeys(shown.page for shown in everything()))
def test_what_is_shown_works(page, folder, monkeypatch, capsys):
    wrong, names, times = [], {"__name__": "__main__"}, []
    for shown in everything():
        if shown.page != page:
            continue
        text, start = instead(shown.text), time.process_time()
        try:
            if shown.language == "python":
                run_python(text, str(shown), names)
            else:
                run_command(text, monkeypatch)
        except Exception as error:
            why = error if isinstance(error, DoesNotWork) else traceback.format_exc()
            said = capsys.readouterr().err[-1000:]
            wrong.append(f"{shown}: {shown.text.strip()}\nrun as: {text.strip()}\n{why}\n{said}")
        capsys.readouterr()
        times.append(f"{time.process_time() - start:5.1f} s: {text.strip().splitlines()[-1]}")
    print("Seconds of the processor:", *times, sep="\n")
    if wrong:
        pytest.fail("\n\n".join(["", *wrong]), pytrace=False)


def run_command(text, monkeypatch):
    words = shorter(as_one_process(words_of(text)))
    if words[:2] == ["deconvnet", "demo"] and "--out" not in words:
        shutil.rmtree("demo")
    type_command(words, lambda typed: monkeypatch.setattr(sys, "argv", typed))


@pytest.mark.data
@pytest.mark.parametrize(
    "shown", [shown for shown in everything() if TRUNK in shown.text and shown.text.startswith("deconvnet ")], ids=str
)
def test_what_is_shown_of_the_pretrained_alexnet_works(shown, data, originals, tmp_path, monkeypatch):
    original, weights = originals
    use_thin_networks(monkeypatch, {"zfnet": weights["zfnet"]})
    copy_folder(original, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    Path("bvlc_alexnet_trunk.safetensors").symlink_to(data / "bvlc_alexnet_trunk.safetensors")
    run_command(instead(shown.text, kept=TRUNK), monkeypatch)


def run_python(text, where, names):
    for line, file in FILES.items():
        if line in text:
            Path(file).write_text(text)
            return
    exec(compile(text, where, "exec"), names)


@pytest.mark.slow
def test_torchrun_as_it_is_typed_but_with_two_processes(folder):
    """What is shown with torchrun is run above by one process."""
    typed = next(shown.text for shown in everything() if shown.text.startswith("torchrun ") and " atlas " in shown.text)
    words = words_of(instead(typed))
    options = words[1 : words.index("-m")]
    options[options.index("--nproc-per-node") + 1] = "2"
    command = shorter(as_one_process(words))
    remove_result(command)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, "-m", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "atlas" / "index.html").is_file()


def test_nothing_stands_in_for_what_is_no_longer_shown():
    texts = [shown.text for shown in everything()]
    assert [part for part in INSTEAD if not any(part in text for text in texts)] == []
    assert [line for line in FILES if not any(line in text for text in texts)] == []
    commands = [as_one_process(words_of(shown.text)) for shown in everything() if shown.language == "command"]
    made = {words[1] for words in commands if words[0] == "deconvnet" and makes(words)}
    assert SHORTER.keys() - made == set()


def test_everything_is_found():
    """A change of how pages are written must not leave this test with nothing to do."""
    found = everything()
    assert sum(shown.language == "python" for shown in found) >= 2
    assert sum(shown.page == "README.md" for shown in found) >= 20
    for name in typer.main.get_command(app).commands:
        assert any(shown.page == f"deconvnet {name} --help" for shown in found), f"deconvnet {name} --help has no example"
