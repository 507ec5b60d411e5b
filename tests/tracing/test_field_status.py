"""What is said of receptive fields, held to the pixels that have a gradient, for all ways of moving positions."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from deconvnet.tracing import Box, FieldStatus, trace
from helpers.rectified_steps import RectifiedSteps
from helpers.supports import some_positions, supports

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT, UPPER_BOUND, WHOLE_IMAGE, DATA_DEPENDENT = FieldStatus

HEIGHT, WIDTH = 24, 20


def conv(kernel=3, inputs=3, outputs=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, **options)


def weights(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def convolve(x, kernel=3, outputs=3, **options):
    return F.conv2d(x, weights(outputs, x.shape[1] // options.get("groups", 1), kernel, kernel), **options)


def halve(x):
    return convolve(x, stride=2, padding=1)


def steps(*functions):
    module = RectifiedSteps(*functions)
    module.parts = nn.ModuleList(function for function in functions if isinstance(function, nn.Module))
    return module


def blur(x, pad=(1, 1, 1, 1)):
    return convolve(F.pad(x, pad, mode="reflect"), outputs=x.shape[1], stride=2, groups=x.shape[1])


def focus(x):
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], dim=1)


def space_to_depth(x):
    count, channels, rows, columns = x.shape
    blocks = x.view(count, channels, rows // 2, 2, columns // 2, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(count, 4 * channels, rows // 2, columns // 2)


def norm_of_positions(x):
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


def attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    return ((tokens @ tokens.transpose(1, 2)).softmax(dim=-1) @ tokens).transpose(1, 2).reshape(x.shape)


def windows(x):
    """Mixes each window of 4×4 positions, as transformers with windows do."""
    count, channels, rows, columns = x.shape
    split = x.view(count, channels, rows // 4, 4, columns // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, channels)
    mixed = split.softmax(dim=1).view(count, rows // 4, columns // 4, 4, 4, channels)
    return mixed.permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


def old_normalisation(x):
    squares = F.pad(x.pow(2).unsqueeze(1), (0, 0, 0, 0, 2, 2))
    return x / (F.avg_pool3d(squares, (5, 1, 1), stride=1).squeeze(1) + 1).pow(0.75)


def changed_view(x):
    y = halve(x)
    y[:, :, 1:-1, 1:-1].add_(convolve(y.clone()))
    return y


def assigned_rows(x):
    y = halve(x)
    y[:, :, 2:4] = y[:, :, 4:6] * 2
    return convolve(y)


def masked(x):
    y = halve(x).clone()
    y[convolve(x, stride=2, padding=1) < 0] = 0
    return y


def changed_channels(x):
    y = halve(x)
    y[:, :2].add_(convolve(y.clone(), outputs=2, padding=1))
    return y


#: By name: the module, and what is to be said of its last layer's field.
FIELDS = {
    # As before
    "convolutions": (steps(convolve, halve, convolve), EXACT),
    "dilation": (steps(lambda x: convolve(halve(x), dilation=3)), EXACT),
    "pooling that leaves pixels out": (steps(lambda x: F.avg_pool2d(x, 2, 5)), EXACT),
    "pooling in ceil mode": (steps(lambda x: F.avg_pool2d(halve(x), 3, 2, ceil_mode=True)), EXACT),
    "pooling with a norm": (steps(lambda x: F.lp_pool2d(halve(x), 2, 3, 2)), EXACT),
    # Padding
    "reflection": (nn.Sequential(*(conv(padding=1, padding_mode="reflect") for _ in range(2)), nn.ReLU()), EXACT),
    "reflection of maps with strides": (steps(halve, nn.ReflectionPad2d(1), halve, nn.ReflectionPad2d(2), conv(5)), EXACT),
    "replication": (nn.Sequential(*(conv(padding=1, padding_mode="replicate") for _ in range(2)), nn.ReLU()), EXACT),
    "circle": (nn.Sequential(conv(padding=1, padding_mode="circular"), nn.ReLU()), UPPER_BOUND),
    "reflection of more than windows hold": (nn.Sequential(nn.ReflectionPad2d(3), conv(), nn.ReLU()), UPPER_BOUND),
    "reflection that no window reads with its origin": (
        nn.Sequential(nn.ReflectionPad2d(2), conv(2, dilation=3), nn.ReLU()),
        UPPER_BOUND,
    ),
    "replication of more than windows hold": (nn.Sequential(nn.ReplicationPad2d(3), conv(), nn.ReLU()), UPPER_BOUND),
    "blur pooling": (steps(convolve, blur, conv(padding=1)), EXACT),
    "blur pooling, uneven": (steps(lambda x: blur(x, (1, 2, 1, 2)), halve), EXACT),
    # Slices
    "a shortcut cropped": (steps(lambda x: x[:, :, 2:-2, 2:-2] + convolve(convolve(x))), EXACT),
    "a crop by negative padding": (steps(lambda x: F.pad(x, (-2, -2, -2, -2)) + convolve(convolve(x))), EXACT),
    "every second position": (steps(lambda x: convolve(convolve(x)[..., 1::2, ::2])), EXACT),
    "narrow": (steps(lambda x: halve(x.narrow(2, 3, 12).narrow(-1, -10, 9))), EXACT),
    "a row": (steps(lambda x: convolve(x, padding=1)[:, :, 4:5]), EXACT),
    "a slice of channels and rows": (steps(lambda x: halve(x)[:, 1:, 2:]), EXACT),
    "rows by index": (steps(lambda x: halve(x).index_select(2, torch.tensor([1, 2, 3, 4, 5]))), EXACT),
    # Resampling
    "pixels into channels": (steps(lambda x: convolve(F.pixel_unshuffle(x, 2), padding=1)), EXACT),
    "channels into pixels": (steps(lambda x: F.pixel_shuffle(convolve(x, outputs=12, stride=2), 2)), UPPER_BOUND),
    "focus": (steps(lambda x: convolve(focus(x), padding=1)), EXACT),
    "space to depth": (steps(space_to_depth, conv(inputs=12)), EXACT),
    "nearest neighbours": (steps(halve, nn.Upsample(scale_factor=2)), UPPER_BOUND),
    "nearest neighbours and back": (steps(halve, lambda x: F.avg_pool2d(F.interpolate(x, scale_factor=2), 2)), EXACT),
    "nearest neighbours of a size": (steps(lambda x: F.interpolate(x, size=(7, 5))), UPPER_BOUND),
    "bilinear": (steps(halve, nn.Upsample(scale_factor=2, mode="bilinear"), conv()), UPPER_BOUND),
    "bilinear, aligned": (steps(lambda x: F.interpolate(x, (7, 9), mode="bilinear", align_corners=True)), UPPER_BOUND),
    "antialiased": (
        steps(lambda x: F.interpolate(convolve(x), scale_factor=0.5, mode="bilinear", antialias=True)),
        EXACT,
    ),
    "bicubic": (steps(lambda x: F.interpolate(halve(x), scale_factor=1.5, mode="bicubic")), UPPER_BOUND),
    "area": (steps(lambda x: F.interpolate(x, size=(6, 5), mode="area")), EXACT),
    "transposed convolution": (nn.Sequential(conv(stride=2), nn.ConvTranspose2d(3, 3, 4, 2, 1), nn.ReLU()), UPPER_BOUND),
    "transposed convolution, dilated": (nn.Sequential(nn.ConvTranspose2d(3, 3, 3, dilation=2), nn.ReLU()), EXACT),
    "uneven adaptive pooling": (steps(halve, nn.AdaptiveAvgPool2d((5, 3))), UPPER_BOUND),
    "even adaptive pooling": (steps(halve, nn.AdaptiveAvgPool2d((4, 5))), EXACT),
    "skip connections between sizes": (steps(halve, lambda x: x + F.interpolate(halve(x), x.shape[-2:])), UPPER_BOUND),
    # Moves
    "mirror": (steps(lambda x: halve(x.flip(3))), EXACT),
    "mirror and back": (steps(lambda x: halve(x.flip(-1)).flip(-1)), EXACT),
    "roll": (steps(lambda x: x.roll(1, dims=2)), UPPER_BOUND),
    "roll and back": (steps(lambda x: (2 * halve(x).roll((1, 2), (2, 3))).roll((-1, -2), (2, 3))), EXACT),
    "transpose": (steps(lambda x: x.transpose(2, 3)), UPPER_BOUND),
    "channels last and back": (steps(halve, norm_of_positions, conv()), EXACT),
    "linear along channels": (
        steps(lambda x: F.linear(halve(x).movedim(1, -1), weights(5, 3)).movedim(-1, 1)),
        EXACT,
    ),
    "einsum along channels": (steps(lambda x: torch.einsum("nchw,dc->ndhw", halve(x), weights(4, 3))), EXACT),
    "rows in another order": (steps(lambda x: torch.cat([x[:, :, 12:], x[:, :, :12]], dim=2)), UPPER_BOUND),
    "unfold": (steps(lambda x: F.unfold(x, 3, padding=1).view(1, -1, HEIGHT, WIDTH)), EXACT),
    "unfold a tensor": (steps(lambda x: x.unfold(2, 3, 2).unfold(3, 3, 2).sum(dim=(-2, -1))), EXACT),
    "unflatten": (steps(lambda x: halve(x).unflatten(1, (1, 3)).sum(dim=1)), EXACT),
    "stack": (steps(lambda x: torch.stack([halve(x), convolve(x, 5, stride=2, padding=2)]).sum(dim=0)), EXACT),
    "maximum of channels": (steps(lambda x: F.max_pool3d(convolve(x)[None], (3, 1, 1)).squeeze(0)), EXACT),
    "normalisation over channels": (steps(halve, old_normalisation), EXACT),
    "windows of a transformer": (steps(windows), UPPER_BOUND),
    "rows mixed": (steps(lambda x: torch.einsum("nchw,hk->nckw", x, weights(HEIGHT, HEIGHT))), EXACT),
    "rows mixed by a product": (steps(lambda x: weights(HEIGHT, HEIGHT) @ x), EXACT),
    "the position in the centre": (steps(lambda x: convolve(x, 5)[:, :, 3:4, 4:5].flatten(1)[..., None, None]), EXACT),
    "the position in the centre, connected": (
        steps(lambda x: F.linear(convolve(x, 5)[:, :, 3, 4], weights(7, 3)).view(1, 7, 1, 1)),
        EXACT,
    ),
    # Channels that differ
    "channels that differ": (steps(lambda x: torch.cat([halve(x), convolve(x, 5, stride=2, padding=2)], dim=1)), EXACT),
    "some of channels that differ": (
        steps(lambda x: torch.cat([halve(x), convolve(x, 5, stride=2, padding=2)], dim=1)[:, :3]),
        UPPER_BOUND,
    ),
    "channels that differ, mixed": (
        steps(lambda x: convolve(torch.cat([halve(x), convolve(x, 5, stride=2, padding=2)], dim=1), 1)),
        EXACT,
    ),
    "channels that differ, in groups": (steps(lambda x: convolve(focus(x), groups=3)), EXACT),
    # Changes in place
    "a part of the positions changed": (steps(changed_view), EXACT),
    "some rows assigned": (steps(assigned_rows), UPPER_BOUND),
    "some values replaced": (steps(masked), EXACT),
    "some channels changed": (steps(changed_channels), EXACT),
    # The whole image
    "global average": (steps(lambda x: x * x.mean(dim=(2, 3), keepdim=True)), WHOLE_IMAGE),
    "gate": (steps(halve, lambda x: x * convolve(F.adaptive_avg_pool2d(x, 1), 1)), WHOLE_IMAGE),
    "global pooling": (steps(convolve, nn.AdaptiveAvgPool2d(1), conv(1)), WHOLE_IMAGE),
    "fully connected": (steps(lambda x: (x.flatten(1) @ weights(3 * HEIGHT * WIDTH, 8)).view(1, 8, 1, 1)), WHOLE_IMAGE),
    "attention": (steps(halve, attention), WHOLE_IMAGE),
    "attention by a function": (
        steps(lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mT.reshape(x.shape)),
        WHOLE_IMAGE,
    ),
    "group normalisation": (steps(halve, nn.GroupNorm(1, 3)), WHOLE_IMAGE),
    "dynamic filters": (
        steps(lambda x: convolve(x, groups=3) * F.conv2d(x, x.mean(dim=(2, 3)).view(1, 3, 1, 1))[..., 1:-1, 1:-1]),
        WHOLE_IMAGE,
    ),
    "Fourier": (steps(lambda x: torch.fft.fft2(x).real), WHOLE_IMAGE),
    "sampled": (steps(lambda x: F.grid_sample(x, x.movedim(1, -1)[..., :2] - 0.5, align_corners=False)), DATA_DEPENDENT),
    "deformed": (
        steps(
            lambda x: torchvision.ops.deform_conv2d(x, convolve(x, outputs=18, padding=1), weights(4, 3, 3, 3), padding=1)
        ),
        DATA_DEPENDENT,
    ),
    "rows by value": (steps(lambda x: x[:, :, x.sum(dim=(0, 1, 3)).argsort()]), DATA_DEPENDENT),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_what_its_status_says(name):
    module, status = FIELDS[name]
    module = module.double()
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    images = torch.rand(2, 1, 3, HEIGHT, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    layer = trace(module, images[0]).layers[-1]
    assert layer.field.status == status
    positions = some_positions(*layer.map_size)
    measured = supports(module, images, positions)
    boxes = {position: layer.field.clipped_box(*position) for position in positions}
    for position, box in measured.items():
        assert intersection(box, boxes[position]) == box, position
    rows, columns = layer.map_size
    inner = [
        (r, c)
        for r, c in positions
        if rows // 4 <= r <= rows - 1 - rows // 4 and columns // 4 <= c <= columns - 1 - columns // 4
    ]
    if status == EXACT:
        assert {position: measured[position] for position in inner} == {position: boxes[position] for position in inner}
    elif status == UPPER_BOUND:
        assert measured != boxes
    else:
        assert set(boxes.values()) == {Box(0, 0, WIDTH, HEIGHT)}


def intersection(a, b):
    return Box(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))


def unfollowed(*functions):
    return [layer.field.unfollowed for layer in trace(steps(*functions), torch.rand(1, 3, HEIGHT, WIDTH)).layers]


def test_the_call_that_cannot_be_followed_is_named_and_what_truly_sees_everything_is_not():
    def mix(x):
        return x + torch.fft.fft2(x).real

    pool = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
    before, at, behind = unfollowed(pool, mix, nn.Sequential(pool, nn.AdaptiveAvgPool2d(1)))
    assert before == ""
    assert at == behind
    assert at.startswith(("fft_fft2 of ", "fft_fft2 ("))
    assert unfollowed(lambda x: x.flatten(1) @ torch.rand(3 * HEIGHT * WIDTH, 4)) == [""]
    assert unfollowed(lambda x: x * x.mean(dim=(2, 3), keepdim=True)) == [""]


def test_writing_into_a_new_tensor_is_named():
    def copy(x):
        y = torch.zeros(1, 3, HEIGHT + 2, WIDTH + 2)
        y[:, :, 1:-1, 1:-1] = x
        return y

    (name,) = unfollowed(copy)
    assert name.startswith("setitem")


def test_single_elements_are_followed_through_tensors_of_fewer_dimensions():
    def one_pixel(x):
        row = x[:, 0, 2]
        return convolve(x) + row[:, 3].sum() + torch.stack(list(x))[0, 0, 2, 3]

    layer = trace(steps(one_pixel), torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.float64)).layers[0]
    for row, column in ((0, 0), (10, 10), (HEIGHT - 3, WIDTH - 3)):
        left, top, right, bottom = layer.field.clipped_box(row, column)
        assert (left <= 3 < right, top <= 2 < bottom) == (True, True)
