"""The tree of the source that docs/architecture.md shows: a line for each folder and file, from the docstrings.

python docs/source_tree.py        prints it, to be put between the markers in docs/architecture.md
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "deconvnet"

#: Folders that hold no modules.
OTHER_FOLDERS = {
    "atlas/web": "Pages that show an atlas: HTML, CSS and JavaScript, written by hand.",
    "explorer/live": "Files of the live page.",
    "models/bundled": "Weights of the bundled networks, with recipe, log and errors.",
    "report/web": "HTML and CSS of the report.",
    "training/recipes": "The bundled recipes, `paper` and `fast`.",
}

#: Width of the column of names.
WIDTH = 34


def summary(file: Path) -> str:
    """The first line of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def tree(folder: Path = SOURCE, depth: int = 0) -> list[str]:
    """A line for `folder` and for everything in it, folders first, both in alphabetical order."""
    name = folder.relative_to(SOURCE).as_posix()
    about = OTHER_FOLDERS[name] if name in OTHER_FOLDERS else summary(folder / "__init__.py")
    lines = [line(depth, f"{folder.name}/", about)]
    if name in OTHER_FOLDERS:
        return lines
    entries = sorted(folder.iterdir())
    for inner in entries:
        if inner.is_dir() and inner.name != "__pycache__":
            lines += tree(inner, depth + 1)
    for file in entries:
        if file.suffix == ".py" and file.name != "__init__.py":
            lines.append(line(depth + 1, file.name, summary(file)))
    return lines


def line(depth: int, name: str, about: str) -> str:
    return f"{'  ' * depth}{name}".ljust(WIDTH) + about


if __name__ == "__main__":
    print("\n".join(tree()))
