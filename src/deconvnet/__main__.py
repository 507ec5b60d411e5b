"""`python -m deconvnet`."""

from deconvnet.cli import main

main()
