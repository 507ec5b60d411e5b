"""How sets of images lie on disk, one module per kind."""
