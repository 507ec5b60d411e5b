"""What the documentation shows to be typed: command lines and Python, page by page, in order."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: How a line begins that is a command, in a block that says of no language or of no prompt which of its lines are.
PROGRAMS = frozenset("deconvnet torchrun python python3 make tensorboard pip uv git cd source pytest".split())

#: Languages of blocks in which every line is a command, unless some begin with a prompt.
_SHELL = frozenset(("sh", "bash", "shell", "zsh"))
_MAYBE = frozenset(("", "text", "console", *_SHELL))

_FENCE = re.compile(r"(?P<indent>\s*)(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>.*?)\s*\Z")
_DIRECTIVE = re.compile(r"\{(?P<name>[\w-]+)\}\s*(?P<argument>.*)")


@dataclass(frozen=True)
class Shown:
    """One command line or one block of Python."""

    page: str
    line: int
    language: str  # command or python
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """The README, whatever else lies beside it for people to read, and all pages of docs/."""
    beside = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md") if (ROOT / name).is_file()]
    docs = ROOT / "docs"
    found = sorted(file for file in docs.rglob("*.md") if not _is_built(file.relative_to(docs)))
    return beside + found


def shown_on(page: Path) -> list[Shown]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return list(_shown(page.relative_to(ROOT).as_posix(), list(enumerate(lines, start=1))))


def _is_built(file: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in file.parts)


def _shown(page: str, lines: list[tuple[int, str]]) -> Iterator[Shown]:
    """What stands in `lines`: in fenced blocks, however deep in directives, and in indented ones."""
    at, before = 0, ""
    while at < len(lines):
        line = lines[at][1]
        opened = _FENCE.match(line)
        if opened:
            end = _end(lines, at, opened["fence"])
            inside = [(n, _without(opened["indent"], text)) for n, text in lines[at + 1 : end]]
            directive = _DIRECTIVE.match(opened["info"])
            if directive and not directive["name"].startswith("code"):
                yield from _shown(page, inside)
            else:
                yield from _block(page, (directive["argument"] if directive else opened["info"]).split(" ")[0], inside)
            at, before = end + 1, ""
        elif line.startswith("    ") and not before.strip():
            end = at
            while end < len(lines) and (lines[end][1].startswith("    ") or not lines[end][1].strip()):
                end += 1
            yield from _block(page, "", [(n, text[4:]) for n, text in lines[at:end]])
            at, before = end, ""
        else:
            at, before = at + 1, line


def _end(lines: list[tuple[int, str]], start: int, fence: str) -> int:
    """Where the block that is opened at `start` is closed."""
    for at in range(start + 1, len(lines)):
        text = lines[at][1].strip()
        if text.startswith(fence) and not text.strip(fence[0]):
            return at
    return len(lines)


def _without(indent: str, line: str) -> str:
    return line[len(indent) :] if line.startswith(indent) else line.lstrip()


def _block(page: str, language: str, lines: list[tuple[int, str]]) -> Iterator[Shown]:
    if language in ("python", "ipython", "ipython3"):
        while lines and lines[0][1].startswith(":"):  # options of a directive
            lines = lines[1:]
        if lines:
            yield Shown(page, lines[0][0], "python", "\n".join(text for _, text in lines) + "\n")
    elif language in _MAYBE:
        yield from _commands(page, language, lines)


def _is_command(words: list[str]) -> bool:
    """Whether a line begins as a command does: with a program, and not in a table of them."""
    return words[0] in PROGRAMS and (len(words) == 1 or not re.match(r"[\d.]+\Z", words[1]))


def _commands(page: str, language: str, lines: list[tuple[int, str]]) -> Iterator[Shown]:
    prompts = any(text.startswith("$ ") for _, text in lines)
    at = 0
    while at < len(lines):
        number, text = lines[at]
        at += 1
        typed = text.removeprefix("$ ") if text.startswith("$ ") or not prompts else ""
        words = typed.split()
        if not words or words[0].startswith(("#", ":")):
            continue
        if prompts or language in _SHELL or _is_command(words):
            while typed.endswith("\\") and at < len(lines):
                typed = f"{typed[:-1]} {lines[at][1].strip()}"
                at += 1
            yield Shown(page, number, "command", typed)
