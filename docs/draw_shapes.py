"""Draw the picture of docs/datasets.md by running the code that the page shows: `python docs/draw_shapes.py`."""

import contextlib
import re
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent


def main() -> None:
    """Write pictures/shapes-conv3.webp."""
    page = (DOCS / "datasets.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
            exec(code, names)
        with Image.open("shapes-conv3.png") as picture:
            size = 1500, round(1500 * picture.height / picture.width)
            small = picture.resize(size, Image.Resampling.LANCZOS)
        small.save(DOCS / "pictures" / "shapes-conv3.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
