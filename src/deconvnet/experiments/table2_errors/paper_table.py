"""The paper's Table 2, as printed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table2Row:
    """A row of Table 2: errors in per cent on ImageNet 2012, None where the paper prints nothing."""

    model: str
    val_top1: float | None
    val_top5: float | None
    test_top5: float | None


#: Table 2 ("ImageNet 2012 classification error rates"), in the paper's order; DeCAF, Howard and Clarifai are in the ECCV
#: version only. * was trained on ImageNet 2011 and 2012.
TABLE_2 = (
    Table2Row("Gunji et al. 2012", None, None, 26.2),
    Table2Row("DeCAF", None, None, 19.2),
    Table2Row("Krizhevsky et al. 2012, 1 convnet", 40.7, 18.2, None),
    Table2Row("Krizhevsky et al. 2012, 5 convnets", 38.1, 16.4, 16.4),
    Table2Row("Krizhevsky et al. 2012*, 1 convnet", 39.0, 16.6, None),
    Table2Row("Krizhevsky et al. 2012*, 7 convnets", 36.7, 15.4, 15.3),
    Table2Row("the paper's replication of Krizhevsky et al., 1 convnet", 40.5, 18.1, None),
    Table2Row("1 convnet as Fig. 3", 38.4, 16.5, None),
    Table2Row("5 convnets as Fig. 3 (a)", 36.7, 15.3, 15.3),
    Table2Row("1 convnet as Fig. 3, layers 3, 4, 5: 512, 1024, 512 maps (b)", 37.5, 16.0, 16.1),
    Table2Row("6 convnets, (a) and (b) combined", 36.0, 14.7, 14.8),
    Table2Row("Howard", None, None, 13.5),
    Table2Row("Clarifai", None, None, 11.7),
)
