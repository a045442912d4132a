"""From errors under corruptions to one number, named for what it is.

On ImageNet's 50,000 validation images the field compares mCE: the error relative to AlexNet's. Of
other images AlexNet's error is unknown, and the plain mean is all there is: the C-like error.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fewlabels.errors import UserError

# AlexNet's error on ImageNet-C, mean of the five severities, as the authors published it
ALEXNET_ERROR: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


def c_like_error(errors: Mapping[str, Sequence[float]]) -> float:
    """The mean over corruptions of the mean over severities of errors in 0..1."""
    if not errors:
        raise UserError("a C-like error needs the errors under at least one corruption")
    return float(np.mean([np.mean(row) for row in errors.values()]))


def mce(
    errors: Mapping[str, Sequence[float]], alexnet: Mapping[str, float] = ALEXNET_ERROR
) -> float:
    """The mean corruption error: the mean over all 15 of sum(errors) / sum(AlexNet's errors), over
    five severities each (Hendrycks and Dietterich 2019, section 4.1). 1 is as bad as AlexNet.

    For ImageNet-C's own files and nothing else. UserError unless there are five errors of each of
    the 15 corruptions, and of no other.
    """
    missing = [name for name in alexnet if len(errors.get(name, ())) != 5]
    other = sorted(set(errors) - set(alexnet))
    if missing or other:
        raise UserError(
            "mCE needs five errors of each of the 15 corruptions and of no other; "
            f"wrong: {', '.join(missing + other)}"
        )
    return float(np.mean([np.mean(errors[name]) / alexnet[name] for name in alexnet]))
