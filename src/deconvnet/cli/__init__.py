"""The command line: one command per verb, which only parses, calls and prints."""

from deconvnet.cli.main import main

__all__ = ["main"]
