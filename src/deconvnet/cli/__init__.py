"""The command line: one command per verb, which parses, calls and prints, and has no logic of its own."""

from deconvnet.cli.main import main

__all__ = ["main"]
