"""What is installed with the package beside its Python: pages and bundled networks."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_pages_and_bundled_networks_are_in_the_wheel(tmp_path):
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
    ]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        packed = set(opened.namelist())
    source = ROOT / "src" / "deconvnet"
    kinds = (".py", ".html", ".css", ".js", ".svg", ".csv", ".toml", ".json", ".safetensors", ".typed")
    there = {f"deconvnet/{file.relative_to(source).as_posix()}" for file in source.rglob("*") if file.suffix in kinds}
    for folder in (
        "atlas/web/index.html",
        "explorer/live/index.html",
        "networks/bundled/zfnet-imagenette/weights.safetensors",
    ):
        assert f"deconvnet/{folder}" in there
    assert there <= packed
