"""`--model auto`: a pretrained backbone where one can be had and pays, else `cnn_small`.

With few labels pretrained weights are the strongest lever there is, for photographs. They are not
taken for images so small that a pretrained net would have to see them blown up several times, nor
where the time is not enough for one look at every image.
"""

from dataclasses import replace
from pathlib import Path

from fewlabels.models import catalog, weights_file
from fewlabels.models.built import Built

TINY = 48  # pixels: the longer side of digits, icons, CIFAR
PRETRAINED = {"cpu": "timm:mobilenetv2_100", "gpu": "timm:convnext_tiny"}
SCRATCH = {"cpu": "cnn_small", "gpu": "wrn_28_2"}
# images a second of such a net: 185 measured on two cores at 128 px; that of a GPU is a guess
LOOKS = {"cpu": 60.0, "gpu": 1500.0}
SHARE = 0.25  # of the time, for one look at every image


def choose(
    side: int, images: int, device: str, seconds: float | None, num_classes: int, weights: str
) -> tuple[str, Built]:
    """The name of a model, and the model.

    side: of a typical image, in pixels; device: "cpu" or another; seconds: for the whole command,
    None where steps are what is limited; weights: auto, none, a run's, or a file for the model from
    scratch.
    """
    if weights not in ("auto", "none") and (run := weights_file.origin(Path(weights))) is not None:
        return run.model, catalog.build(run.model, num_classes, weights, run.arguments)
    kind = "cpu" if device == "cpu" else "gpu"
    scratch = SCRATCH[kind] if side <= TINY or kind == "cpu" else "resnet18"
    name, note = PRETRAINED[kind], ""
    if weights == "auto" and side > TINY:
        if seconds is not None and images / LOOKS[kind] > SHARE * seconds:
            note = f"{images:,} images are too many for a pretrained net in this time"
        else:
            built = catalog.build(name, num_classes)
            if built.weights != "none":
                return name, built
            note = built.note.replace("it starts from random ones", f"{scratch} from scratch")
    built = catalog.build(scratch, num_classes, weights if weights != "auto" else "none")
    return scratch, replace(built, note=f"--model auto: {note}" if note else built.note)
