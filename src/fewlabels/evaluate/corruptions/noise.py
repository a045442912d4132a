"""Noise: Gaussian, shot, impulse and speckle. Each value of each channel is disturbed by itself.

All take colours x [H, W, 3] in 0..1, the strength, the scale of lengths (none has any) and the
random numbers.
"""

import numpy as np
from numpy.random import Generator

from fewlabels.evaluate.corruptions.canvas import Reals
from fewlabels.evaluate.corruptions.parameters import Strength


def gaussian_noise(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """x + N(0, sigma²)."""
    return x + rng.standard_normal(x.shape, np.float32) * np.float32(strength[0])


def shot_noise(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Poisson(c x) / c, as if c photons made white."""
    return (rng.poisson(x * strength[0]) / strength[0]).astype(np.float32)


def impulse_noise(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """Salt and pepper: a share of the values turns to 0 or 1, half of them each."""
    draw = rng.random(x.shape, np.float32)
    share = strength[0]
    return np.where(draw < share / 2, np.float32(0), np.where(draw < share, np.float32(1), x))


def speckle_noise(x: Reals, strength: Strength, scale: float, rng: Generator) -> Reals:
    """x + x N(0, sigma²): the brighter, the noisier."""
    return x + x * rng.standard_normal(x.shape, np.float32) * np.float32(strength[0])
