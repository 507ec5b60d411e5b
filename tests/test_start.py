"""What a command imports: nothing that takes seconds and serves nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

#: torch's parts for compiling and exporting, and what they import.
HEAVY = ("sympy", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch._inductor", "torchvision", "scipy.stats")


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("look zfnet photo.png --out look.png", HEAVY),
        ("networks", ("torch", *HEAVY)),
        ("networks zfnet --json", ("torch", *HEAVY)),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_need(tmp_path: Path, command: str, heavy: tuple[str, ...]):
    Image.effect_noise((256, 256), 60).convert("RGB").save(tmp_path / "photo.png")
    program = (
        "import sys; from deconvnet.cli import main\n"
        f"sys.argv = ['deconvnet', *{command.split()!r}]\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        f"print('imported', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "imported []", done.stderr
