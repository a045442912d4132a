"""Pictures of nothing, each unlike the others: clouds of three sizes."""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter


def scene(seed: int, side: int = 64) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((side, side, 3))
    for sigma in (side / 24, side / 12, side / 6):
        cloud = gaussian_filter(
            rng.standard_normal((side, side, 3)), (sigma, sigma, 0), mode="wrap"
        )
        pixels += cloud / cloud.std()
    return Image.fromarray(np.clip(128 + 25 * pixels, 0, 255).astype(np.uint8))
