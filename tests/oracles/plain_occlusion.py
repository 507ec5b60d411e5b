"""Fig. 7's maps from the definition: one position after the other, each a whole pass of the module."""

import torch


def occlude(module, x, size, stride, covered):
    """For x (3, S, S): what `module` returns, by the square's (row, column). `covered` (3,) is put in the square's place."""
    found = {}
    for row in range(0, x.shape[1] - size + 1, stride):
        for column in range(0, x.shape[2] - size + 1, stride):
            version = x.clone()
            for down in range(size):
                for across in range(size):
                    version[:, row + down, column + across] = covered
            with torch.no_grad():
                found[row, column] = module(version[None])
    return found
