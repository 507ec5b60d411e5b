"""Where image sets come from, one module per kind of source: folders, tar files, ImageNet's development kit."""
