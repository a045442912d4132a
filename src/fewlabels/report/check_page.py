"""The page of a check: what was found, with pictures. It loads nothing and runs no script."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fewlabels.curate.check import Checked, Pictures
from fewlabels.errors import UserError
from fewlabels.pixels.decode import Unreadable, decode
from fewlabels.pool.pool import Pool
from fewlabels.report.check import Finding, Shown, classes, of_the_unlabelled, told, verdict
from fewlabels.report.comparison import need_page
from fewlabels.report.html import template
from fewlabels.training.folder import write_text

SIDE = 96  # pixels of a thumbnail, shown at about as many
TINY = 48  # up to here an image's own pixels should be seen
GROUPS = 24  # of a finding that are shown
EACH = 4  # images of a group
MEANS = 60  # class-mean pictures
ROWS = 200  # of a table


@dataclass(frozen=True)
class Picture:
    """A thumbnail and what stands below it; no `source` where it cannot be read any more."""

    name: str
    note: str
    source: str
    tiny: bool


def write(checked: Checked, pictures: Pictures, pool: Pool, target: Path) -> None:
    """Writes the page; the few images that it shows are read again. UserError where it cannot be
    written."""
    need_page(target)
    page = render(checked, pictures, pool)
    try:
        write_text(target, page)
    except OSError as error:
        raise UserError(f"-o {target}: cannot be written ({error.strerror})") from error


def render(checked: Checked, pictures: Pictures, pool: Pool) -> str:
    """The page as text."""
    columns, rows = classes(checked)
    shares = checked.balance.shares
    return template("check.html").render(
        checked=checked,
        verdict=verdict(checked),
        columns=columns,
        rows=rows[:ROWS],
        left=len(rows) - ROWS,
        findings=[_shown(finding, pictures, pool) for finding in told(checked)],
        means=[
            Picture(name, "", _uri(Image.fromarray(mean)), False)
            for name, mean in list(pictures.means.items())[:MEANS]
        ],
        balance=of_the_unlabelled(checked),
        shares=sorted(shares.items(), key=lambda item: -item[1].value)[:ROWS],
        unlabelled=any(of["unlabelled"] for of in checked.counts.values()),
    )


def _shown(finding: Finding, pictures: Pictures, pool: Pool) -> dict[str, Any]:
    """A finding with the pictures of its first groups."""
    shown = finding.groups[: GROUPS if finding.pictures else ROWS]
    return {
        "key": finding.key,
        "title": finding.title,
        "means": finding.means,
        "count": len(finding.groups),
        "left": len(finding.groups) - len(shown),
        "pictures": finding.pictures,
        "single": all(len(group) == 1 for group in finding.groups),
        "groups": [
            {
                "images": [_picture(image, pictures, pool) for image in group[:EACH]]
                if finding.pictures
                else group,
                "more": max(0, len(group) - EACH),
            }
            for group in shown
        ],
    }


def _picture(image: Shown, pictures: Pictures, pool: Pool) -> Picture:
    try:
        picture = decode(pool.source.read(pictures.row[image.name]))
    except (OSError, Unreadable):  # an exact copy of what cannot be decoded
        return Picture(image.name, image.note, "", False)
    tiny = max(picture.size) <= TINY
    picture.thumbnail((SIDE, SIDE))
    return Picture(image.name, image.note, _uri(picture), tiny)


def _uri(picture: Image.Image) -> str:
    out = io.BytesIO()
    if max(picture.size) <= TINY // 2:
        picture.save(out, "PNG")
    else:
        picture.save(out, "JPEG", quality=75)
    kind = "png" if max(picture.size) <= TINY // 2 else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
