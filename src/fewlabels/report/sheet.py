"""A contact sheet: what every operation, every stage and whole policies make of one image.

Rows of small pictures: an operation by its strength, then samples of stages and of policies.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fewlabels.augment.operations import OPERATIONS, Operation
from fewlabels.augment.policy import PRESETS, STAGES, Policy
from fewlabels.augment.views import picture

Pixels = NDArray[np.uint8]
Captioned = tuple[Pixels, str]

COLUMNS = 7
SIDE = 112  # the longer side of a thumbnail, at most
EDGE, GAP = 28, 12  # around the sheet, between pictures
LABEL = 176  # the column of names at the left
HEADING, LINE, CAPTION = 54, 17, 20  # heights: of a heading, a label's line, a picture's caption
BETWEEN = 24  # two sections
NARROWEST = 80  # a column, so that "autocontrast" fits under its picture
INK, GREY, RULE = (34, 34, 34), (110, 110, 110), (221, 221, 221)


@dataclass(frozen=True)
class Row:
    """Pictures side by side, and at their left a name and further lines; either may be empty."""

    name: str
    detail: str
    pictures: tuple[Captioned, ...]


@dataclass(frozen=True)
class Section:
    """Rows under a heading."""

    name: str
    note: str
    rows: tuple[Row, ...]


def contact_sheet(image: Pixels, policies: tuple[Policy, ...], seed: int = 0) -> Image.Image:
    """What augmentation makes of `image` [H, W, 3]: operations, stages and these policies.

    A large image is shrunk to a thumbnail first; a small one is augmented as it is and then shown
    larger by a whole factor, so that its pixels can be seen.
    """
    small, each = _shrunk(image), f"{COLUMNS} samples of each"
    sections = [
        Section("Operations", "from the lowest strength to the highest", _operations(small, seed)),
        Section("Stages", f"{each}, as it is by default", _stages(small, seed)),
        Section("Policies", each, _policies(small, policies, seed)),
    ]
    return _drawn([section for section in sections if section.rows])


def strengths(operation: Operation) -> list[float]:
    """From the lowest to the highest, through the neutral one where that lies between them.

    FixMatch's range; one that ends before the neutral strength goes on to RandAugment's extreme.
    """
    low, high, neutral = operation.low, operation.high, operation.neutral
    if not low <= neutral <= high:
        high = operation.extreme
    middle = neutral if low < neutral < high else (low + high) / 2
    values = np.interp(np.linspace(0, 2, COLUMNS), (0, 1, 2), (low, middle, high))
    # bits, levels and degrees are whole
    return [float(value) for value in np.unique(np.round(values, 0 if high - low > 2 else 2))]


# ---- what is shown ----


def _shrunk(image: Pixels) -> Pixels:
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))  # never enlarges
    return np.array(small)


def _enlarged(pixels: Pixels) -> Pixels:
    factor = max(1, SIDE // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def _operations(image: Pixels, seed: int) -> tuple[Row, ...]:
    def view(text: str) -> Pixels:
        return _enlarged(picture(image, Policy.parse(text), seed))

    fixed = [name for name, operation in OPERATIONS.items() if not operation.has_strength]
    rows = [
        Row("", "without strength", tuple((view(v), v) for v in fixed[start : start + COLUMNS]))
        for start in range(0, len(fixed), COLUMNS)
    ]
    for name, operation in OPERATIONS.items():
        if operation.has_strength:
            values = [f"{value:g}" for value in strengths(operation)]
            rows.append(Row(name, "", tuple((view(f"{name}({v})"), v) for v in values)))
    return tuple(rows)


def _stages(image: Pixels, seed: int) -> tuple[Row, ...]:
    """But for `rand`, which the policies show."""
    names = [name for name in STAGES if name not in OPERATIONS and name != "rand"]
    stages = [Policy.parse(name) for name in names]
    return tuple(Row(str(stage), "", _samples(image, stage, seed)) for stage in stages)


def _policies(image: Pixels, policies: tuple[Policy, ...], seed: int) -> tuple[Row, ...]:
    names = {Policy.parse(text): name for name, text in PRESETS.items()}
    return tuple(
        Row(names.get(policy, ""), str(policy), _samples(image, policy, seed))
        for policy in policies
    )


def _samples(image: Pixels, policy: Policy, seed: int) -> tuple[Captioned, ...]:
    return tuple((_enlarged(picture(image, policy, seed, number)), "") for number in range(COLUMNS))


# ---- how it is drawn ----


def _drawn(sections: list[Section]) -> Image.Image:
    width = max(sections[0].rows[0].pictures[0][0].shape[1], NARROWEST)
    height = sum(HEADING + sum(map(_height, section.rows)) + BETWEEN for section in sections)
    across = 2 * EDGE + LABEL + COLUMNS * (width + GAP) - GAP
    sheet = Image.new("RGB", (across, 2 * EDGE + height - BETWEEN - GAP), "white")
    draw, y = ImageDraw.Draw(sheet), EDGE
    for section in sections:
        draw.text((EDGE, y), section.name, INK, _font(20))
        start = EDGE + _font(20).getlength(section.name) + 10
        draw.text((start, y + 5), section.note, GREY, _font(14))
        draw.line((EDGE, y + 32, across - EDGE, y + 32), RULE)
        y += HEADING
        for row in section.rows:
            _draw_row(sheet, draw, row, y, width)
            y += _height(row)
        y += BETWEEN
    return sheet


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, y: int, width: int) -> None:
    draw.text((EDGE, y), row.name, INK, _font(15))
    for i, line in enumerate(_wrapped(row.detail), start=bool(row.name)):
        draw.text((EDGE, y + i * LINE), line, GREY, _font(13))
    for i, (pixels, caption) in enumerate(row.pictures):
        down, across = pixels.shape[:2]
        middle = EDGE + LABEL + i * (width + GAP) + width // 2
        left = middle - across // 2
        draw.rectangle((left - 1, y - 1, left + across, y + down), RULE)  # where it is white too
        sheet.paste(Image.fromarray(pixels), (left, y))
        draw.text((middle, y + down + 3), caption, GREY, _font(13), anchor="ma")


def _height(row: Row) -> int:
    """Of a row with the space after it."""
    label = LINE * (bool(row.name) + len(_wrapped(row.detail)))
    caption = CAPTION * any(caption for _, caption in row.pictures)
    down: int = row.pictures[0][0].shape[0]
    return max(label, down + caption) + GAP


def _wrapped(text: str) -> list[str]:
    """Lines no wider than the column of names: broken between stages, or within a long one."""
    lines = [""]

    def fits(line: str) -> bool:
        return _font(13).getlength(line) <= LABEL - GAP

    for stage in re.findall(r"[^+]+\+?", text):
        for part in [stage] if fits(stage) else re.findall(r"[^,|]+[,|]?", stage):
            if not fits(lines[-1] + part):
                lines.append("")
            lines[-1] += part
    return [line for line in lines if line]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
