"""What the paper claims for each figure and table, in our own words, and its numbers that a report compares with ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ReportSection:
    """A section of the report: a figure or table of the paper, or a few that belong together."""

    id: str
    """Its folder in the report, its anchor on the page, and its name for `--only`."""
    source: str
    """Figure, table or section in the paper."""
    title: str
    claim: str
    """What the paper concludes from its own result."""


SECTIONS = (
    ReportSection(
        "training",
        "Section 3",
        "Training",
        "The network is trained for 70 epochs in batches of 128, with a step of 0.01 that is lowered by hand; each "
        "filter of a convolutional layer whose RMS exceeds 0.1 is scaled back to that, which matters most in the first "
        "layer, where a few would dominate otherwise.",
    ),
    ReportSection(
        "look",
        "Section 2.1",
        "One photo, taken apart",
        "An activation is led back to the pixels through the switches of the poolings, rectified and filtered with the "
        "transposed filters of each layer: what appears is the part of the photo that excited the unit, weighted by how"
        " much it did.",
    ),
    ReportSection(
        "fig-2",
        "Fig. 2",
        "What excites each feature map",
        "The nine strongest activations of a map project to much the same pattern, though the photos vary, and the more"
        " so the higher the layer: corners and edges with colours in layer 2, textures in 3, parts of one class in 4, "
        "whole objects in many poses in 5.",
    ),
    ReportSection(
        "fig-3",
        "Fig. 3",
        "The architecture",
        "96 filters of 7×7 with stride 2, 256 of 5×5 with stride 2, three layers of 3×3, two fully connected layers of "
        "4,096 units and a softmax, on a crop of 224×224 pixels.",
    ),
    ReportSection(
        "fig-4",
        "Fig. 4",
        "How units change in training",
        "Lower layers have settled after a few epochs, upper ones only after 40 to 50; and a sudden jump of a picture "
        "means that another photo has become the strongest.",
    ),
    ReportSection(
        "fig-5",
        "Fig. 5",
        "Invariance",
        "A small movement changes the first layer much and the seventh little, there nearly in proportion; the output "
        "withstands translation and scaling, but not rotation, unless the object looks alike when it is turned.",
    ),
    ReportSection(
        "fig-6",
        "Fig. 6",
        "AlexNet beside ZFNet",
        "AlexNet's first layer has very high and very low frequencies and little between, and dead features, and its "
        "second layer shows aliasing from the stride of 4; ZFNet's smaller filters and stride leave more distinctive "
        "features and cleaner ones.",
    ),
    ReportSection(
        "fig-7",
        "Fig. 7",
        "Occlusion",
        "Where the object is covered the probability of its class falls, and the activation of the strongest unit falls"
        " where its projection has its strokes: the network finds the object in the scene, and the projections show "
        "what drives its units.",
    ),
    ReportSection(
        "table-1",
        "Table 1, Fig. 8",
        "Correspondence",
        "Masking an eye or the nose changes the features of layer 5 alike in different dogs (Δ of 0.07 to 0.08, beside "
        "0.11 of random masks), so the network relates parts of objects; at layer 7 hardly any difference is left.",
    ),
    ReportSection(
        "table-2",
        "Table 2",
        "Errors on ImageNet",
        "A network as in Fig. 3 is wrong less often than the paper's own replication of AlexNet, 38.4 % against 40.5 % "
        "(top-1) and 16.5 % against 18.1 % (top-5); averages of several are better again.",
    ),
    ReportSection(
        "table-3",
        "Table 3",
        "Layers removed, narrowed, widened",
        "Without both fully connected layers (44.8 % in place of 40.5 %) or without two layers in the middle (45.4 %) "
        "the error rises a little, without all four much (71.3 %): depth matters. How wide the fully connected layers "
        "are hardly does; wider layers in the middle help; and what is wide in both overfits.",
    ),
    ReportSection(
        "sanity",
        "Not in the paper",
        "What these pictures depend on",
        "Adebayo et al. 2018 found methods that draw much the same picture of a network whose weights are random; how "
        "much of a projection comes from what the network has learnt was not asked in 2013.",
    ),
)

#: The paper's two networks, as specs of the bundled ones.
DEFAULT_NETWORKS = {"alexnet": "alexnet2012", "zfnet": "zfnet"}

#: What no report reproduces, with the reason.
NOT_REPRODUCED = {
    "Fig. 1": "It is a drawing of the method, not a result.",
    "Fig. 6a": "It is of a network trained without renormalisation: `deconvnet train` with largest_rms = 0 in the recipe, "
    "then `deconvnet compare`.",
    "Sections 5.2 and 5.3": "Caltech-101, Caltech-256 and PASCAL VOC (Tables 4 to 7, Fig. 9) are beyond this software.",
}

#: Fig. 2: the width in pixels of a patch of each of ZFNet's layers, measured in the paper's own pictures or, for layers 3
#: and 4, derived from Fig. 3.
FIG_2_PATCH_WIDTHS = {"conv1": 7, "conv2": 27, "conv3": 75, "conv4": 107, "conv5": 139}

#: Fig. 3: units and, for convolutional layers, rows and columns of a feature map before pooling.
FIG_3_LAYER_SIZES = {
    "conv1": (96, 110, 110),
    "conv2": (256, 26, 26),
    "conv3": (384, 13, 13),
    "conv4": (384, 13, 13),
    "conv5": (256, 13, 13),
    "fc6": (4096,),
    "fc7": (4096,),
}

#: Fig. 4: when each layer has converged, in the words of section 4, which do not say where lower layers end.
FIG_4_CONVERGENCE = {
    "conv1": "lower: within a few epochs",
    "conv2": "lower?",
    "conv3": "–",
    "conv4": "upper?",
    "conv5": "upper: after 40 to 50 epochs",
}

#: Fig. 7: lowest and highest value on the colour bars of column (d), the probability of the class.
FIG_7_PROBABILITY_RANGES = {"Pomeranian": ("0.1", "0.9"), "car wheel": ("0.05", "0.25"), "Afghan hound": ("0.1", "0.7")}
