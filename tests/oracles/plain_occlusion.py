"""Fig. 7's maps from the definition: one position after another, each a whole pass of the module."""

import torch


def occlude(module, x, size, stride, colour):
    """For x (3, S, S), the output of `module` by the (row, column) of a square whose pixels become `colour` (3,)."""
    outputs = {}
    for row in range(0, x.shape[1] - size + 1, stride):
        for column in range(0, x.shape[2] - size + 1, stride):
            occluded = x.clone()
            for down in range(size):
                for across in range(size):
                    occluded[:, row + down, column + across] = colour
            with torch.no_grad():
                outputs[row, column] = module(occluded[None])
    return outputs
