"""The entry point: run a command, turn errors and signals into a sentence and an exit code."""

import os
import signal
import sys
import warnings
from types import FrameType

# Importing a module registers its command.
from deconvnet.cli import (  # noqa: F401
    ablate,
    atlas,
    check,
    compare,
    correspond,
    demo,
    evaluate,
    evolve,
    explore,
    invariance,
    look,
    merge,
    mine,
    networks,
    occlude,
    pack,
    project,
    reproduce,
    sanity,
    train,
)
from deconvnet.cli.app import app
from deconvnet.cli.print_results import print_line
from deconvnet.errors import DeconvnetError, UsageError


class _Stopped(BaseException):
    """SIGINT (Ctrl-C) or SIGTERM. Not a KeyboardInterrupt, of which click would make its own "Aborted!"."""

    def __init__(self, number: int) -> None:
        super().__init__("Stopped.")
        self.code = 128 + number


def main() -> None:
    """Run the command line; exit code 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C, 143 by SIGTERM."""
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if not _speaks_for_all():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # while waiting for the first, Python handles none
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # odd images are named at the end
            warnings.showwarning = _warn
            app()
    except UsageError as error:
        _fail(error, 2)
    except DeconvnetError as error:
        _fail(error, 1)
    except _Stopped as stopped:
        _fail(stopped, stopped.code)
    except RuntimeError as error:
        import torch

        if not isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        error.args = (
            "The device has too little memory for this: pass --device cpu (or, to atlas, a smaller --batch-size).",
        )
        _fail(error, 1)  # with its notes
    finally:
        dist = sys.modules.get("torch.distributed")
        if dist and dist.is_initialized():
            dist.destroy_process_group()  # its threads, still at work when Python ends, would now and then abort the process
        for number, handler in before.items():
            signal.signal(number, handler)


def _speaks_for_all() -> bool:
    """Whether this process prints errors for all that `torchrun` started."""
    if "RANK" not in os.environ:
        return True  # without torch, which takes seconds to import
    from deconvnet.distributed import Processes

    return Processes.from_environment().is_first


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print_line(f"deconvnet: {message}", sys.stderr)


def _fail(message: object, code: int) -> None:
    if not isinstance(message, _Stopped) or _speaks_for_all():  # all processes are stopped together; one says so
        notes = getattr(message, "__notes__", [])  # what an error leaves behind, and what to do with it
        print_line(" ".join(["deconvnet:", str(message), *notes]), sys.stderr)
    sys.exit(code)
