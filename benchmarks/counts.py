"""Parameters and FLOPs of the classics, beside what the papers and libraries publish.

    python benchmarks/counts.py

Prints a Markdown table. Published figures are rounded as their sources round them: parameters in
millions, multiply-adds in units of 10^9 for images of the size given. Nothing is trained or loaded.
"""

from dataclasses import dataclass

import torch

from fewlabels.models import anatomy, catalog


@dataclass(frozen=True)
class Row:
    """A model, its classes and image side, and the figures of `source`."""

    name: str
    classes: int
    size: int
    parameters: float | None  # millions
    flops: float | None  # 10^9 multiply-adds
    source: str


# "torchvision" and "timm" are the figures that these libraries print with their weights
CLASSICS = (
    Row("alexnet", 1000, 224, 61.1, 0.71, "torchvision"),
    Row("vgg16", 1000, 224, 138.4, 15.5, "torchvision; paper: 138 M"),
    Row("vgg19", 1000, 224, 143.7, 19.6, "torchvision; paper: 144 M, 19.6"),
    Row("googlenet(aux_logits=False)", 1000, 224, 6.6, 1.5, "torchvision; paper: 1.5"),
    Row("googlenet(aux_logits=True)", 1000, 224, 13.0, None, "torchvision"),
    Row("inception_v3", 1000, 299, 23.8, 5.7, "timm"),
    Row("resnet18", 1000, 224, 11.7, 1.8, "torchvision; paper: 1.8"),
    Row("resnet34", 1000, 224, 21.8, 3.7, "torchvision; paper: 3.6"),
    Row("resnet50", 1000, 224, 25.6, 4.1, "torchvision; paper: 3.8, stride in the 1x1"),
    Row("resnet101", 1000, 224, 44.5, 7.8, "torchvision; paper: 7.6"),
    Row("resnet152", 1000, 224, 60.2, 11.5, "torchvision; paper: 11.3"),
    Row("resnext50_32x4d", 1000, 224, 25.0, 4.2, "paper; torchvision: 4.23"),
    Row("densenet121", 1000, 224, 8.0, 2.8, "torchvision"),
    Row("legacy_seresnet50", 1000, 224, 28.1, 3.9, "paper: 3.87; timm"),
    Row("efficientnet_b0", 1000, 224, 5.3, 0.39, "paper"),
    Row("efficientnet_b1", 1000, 240, 7.8, 0.70, "paper"),
    Row("efficientnet_b2", 1000, 260, 9.2, 1.0, "paper; torchvision: 9.1, at 288 px"),
    Row("efficientnet_b3", 1000, 300, 12.0, 1.8, "paper"),
    Row("efficientnet_b4", 1000, 380, 19.0, 4.2, "paper; torchvision: 19.3, 4.39"),
    Row("efficientnet_b5", 1000, 456, 30.0, 9.9, "paper; torchvision: 30.4, 10.27"),
    Row("efficientnet_b6", 1000, 528, 43.0, 19.0, "paper; torchvision: 43.0, 19.07"),
    Row("efficientnet_b7", 1000, 600, 66.0, 37.0, "paper; torchvision: 66.3, 37.75"),
    Row("efficientnet_l2", 1000, 800, 480.0, None, "paper (Noisy Student)"),
    Row("squeezenet1_0", 1000, 224, 1.25, 0.82, "torchvision; paper: 50x fewer than AlexNet"),
    Row("squeezenet1_1", 1000, 224, 1.24, 0.35, "torchvision"),
    Row("shufflenet_v2_x1_0", 1000, 224, 2.3, 0.146, "paper"),
    Row("mobilenet_v2", 1000, 224, 3.4, 0.300, "paper; torchvision: 3.5"),
    Row("mobilenet_v3_large", 1000, 224, 5.4, 0.219, "paper; torchvision: 5.5"),
    Row("vit_b_16", 1000, 224, 86.6, 17.6, "torchvision; paper: 86 M"),
    Row("vit_l_16", 1000, 224, 304.3, 61.6, "torchvision; paper: 307 M"),
    Row("swin_t", 1000, 224, 28.0, 4.5, "paper"),
    Row("convnext_tiny", 1000, 224, 29.0, 4.5, "paper"),
    Row("resnet20", 10, 32, 0.27, None, "paper"),
    Row("resnet32", 10, 32, 0.46, None, "paper"),
    Row("resnet44", 10, 32, 0.66, None, "paper"),
    Row("resnet56", 10, 32, 0.85, None, "paper"),
    Row("resnet110", 10, 32, 1.7, None, "paper"),
    Row("wrn_28_10", 10, 32, 36.5, None, "paper"),
)


def line(row: Row) -> str:
    """A row of the table; the difference is in per cent of the published figure."""
    try:
        with torch.device("meta"):
            model = catalog.build(row.name, row.classes, "none").model
    except Exception:  # some look at their numbers
        model = catalog.build(row.name, row.classes, "none").model
    totals = anatomy.totals(model, row.size)
    cells = [f"`{row.name}`", str(row.size)]
    for ours, theirs, unit in (
        (totals.parameters, row.parameters, 1e6),
        (totals.flops, row.flops, 1e9),
    ):
        digits = 1 if ours >= 99.95 * unit else 2 if ours >= 0.9995 * unit else 3
        cells.append(f"{ours / unit:.{digits}f}")
        cells.append("-" if theirs is None else f"{theirs:g}")
        cells.append("-" if theirs is None else f"{100 * (ours / unit / theirs - 1):+.1f} %")
    return "| " + " | ".join([*cells, row.source]) + " |"


def main() -> None:
    print(
        "| model | px | parameters, M | published | difference | multiply-adds, G | published "
        "| difference | published by |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    for row in CLASSICS:
        print(line(row), flush=True)


if __name__ == "__main__":
    main()
