"""Pictures that stand in the page itself, as data URIs, and small enough for that."""

import base64
import io

from PIL import Image

SIDE = 192  # pixels; shown at half of that, which is sharp on a fine screen
HEAVY = 16_000  # bytes: a larger picture becomes a JPEG, so that 72 of them stay under 2 MB


def data_uri(picture: bytes) -> tuple[str, bool]:
    """A picture's address, and whether it is so small that its pixels should be seen."""
    with Image.open(io.BytesIO(picture)) as image:
        tiny = max(image.size) <= 64
        kind = (image.format or "png").lower()
        if len(picture) > HEAVY:
            image.thumbnail((SIDE, SIDE))
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=82, optimize=True)
            picture, kind = out.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}", tiny
