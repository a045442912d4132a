"""Pictures that stand in the page itself, as data URIs, and small enough for that."""

import base64
import io
from typing import Any

from PIL import Image

from fewlabels.report import form
from fewlabels.report.read import Row, Run

# side in pixels, shown at half of that, which is sharp on a fine screen; and the quality of a JPEG
FORMS = ((192, 82), (160, 75), (128, 70), (96, 60), (64, 50))
HEAVY = 16_000  # bytes that a picture may have, so that 120 of them stay under 3 MB as base64
TINY = 64  # pixels; up to here they should be seen


def data_uri(picture: bytes) -> tuple[str, bool]:
    """A picture's address, and whether it is so small that its pixels should be seen."""
    with Image.open(io.BytesIO(picture)) as image:
        tiny = max(image.size) <= TINY
        kind = (image.format or "png").lower()
        for side, quality in FORMS:
            if len(picture) <= HEAVY:
                break
            image.thumbnail((side, side))
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=quality, optimize=True)
            picture, kind = out.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}", tiny


def shown(row: Row, run: Run) -> dict[str, Any]:
    """A picture of the gallery as the page shows it; `heat` is None where there is none."""
    source, tiny = data_uri(row["picture"])
    heat = data_uri(row["heat"])[0] if row.get("heat") else None
    return {
        "name": row["name"],
        "short": form.last_part(row["name"]),
        "source": source,
        "tiny": tiny,
        "heat": heat,
        "label": run.name(row["label"]) if row["label"] >= 0 else None,
        "predicted": run.name(row["predicted"]),
        "confidence": row["confidence"],
    }
