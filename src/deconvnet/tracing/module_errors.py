"""Where in a user's module something happened, in words: the submodule and the line of code."""

from pathlib import Path

import torch

_OUR_FOLDERS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))
