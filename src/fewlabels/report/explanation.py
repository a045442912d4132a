"""Explained images as one page; the pictures as PNG files and the numbers as JSON beside it."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewlabels.evaluate.explain.attribution import METHODS
from fewlabels.evaluate.explain.faithful import DRAWS
from fewlabels.evaluate.explain.focus import Focus
from fewlabels.evaluate.explain.gather import Check, ExplainedImage, Explanation, Heat
from fewlabels.evaluate.explain.layers import Stage
from fewlabels.evaluate.explain.picture import Pixels, greys, grid, overlay
from fewlabels.evaluate.intervals import wilson
from fewlabels.pool.pool import Skipped
from fewlabels.report import form, plots
from fewlabels.report.html import template
from fewlabels.report.pictures import data_uri
from fewlabels.training.folder import write_text

PAGE, NUMBERS = "explanation.html", "explanation.json"
LARGE, SMALL = 192, 96  # sides on the page, of maps and of images beside them
FILE = 224  # a smaller picture is enlarged in its file, by a whole factor
TILE = 40  # a map of a stage
ACROSS = 8
TINY = 64  # up to here the page shows pixels as they are
DESTROYED, HARDLY = 0.3, 0.6  # rank correlations with the maps of random weights


def write(found: Explanation, folder: Path, run: str, skipped: tuple[Skipped, ...]) -> Path:
    """Writes the page, which loads nothing and runs no script, the numbers and the pictures."""
    for number, image in enumerate(found.images, 1):
        own = folder / slug(image.name, number)
        _save(image.pixels, own / "picture.png")
        for heat in image.heats:
            _save(overlay(image.pixels, heat.values), own / f"{_file(found, image, heat)}.png")
        for i, stage in enumerate(found.stages, 1):
            _save(_sheet(stage, number - 1), own / f"stage-{i}.png")
    if found.filters:
        _save(grid(found.filters.pictures, ACROSS, TILE), folder / "filters.png")
    for channel in found.channels:
        sheet = grid(_learnt(found)[list(channel.rows)], len(channel.rows), LARGE)
        _save(sheet, folder / f"channel-{channel.number}.png")
    text = json.dumps(to_json(found, skipped), indent=2, ensure_ascii=False)
    write_text(folder / NUMBERS, text + "\n")
    write_text(folder / PAGE, render(found, run, skipped))
    return folder / PAGE


def render(found: Explanation, run: str, skipped: tuple[Skipped, ...] = ()) -> str:
    """The page as text."""
    return template("explanation.html").render(
        run=run,
        images=[_image(found, image, i) for i, image in enumerate(found.images)],
        size=found.images[0].pixels.shape[0],
        methods=[METHODS[check.method] for check in found.checks],
        verdict=[trust(found.checks[0])] if found.checks else [],
        trust=[trust(check) for check in found.checks[1:]],
        checks=[_check(check) for check in found.checks],
        levels=list(found.checks[0].randomised) if found.checks else [],
        draws=DRAWS,
        channels=[_channel(found, channel.number, channel.rows) for channel in found.channels],
        learnt=len(found.learnt.names),
        filters=_filters(found),
        notes=[note[0].upper() + note[1:] for note in found.notes],
        skipped=skipped,
    )


# ---- in words ----


def look(focus: Focus | None, name: str) -> str:
    """Where the heat lies; `name` is the class."""
    if focus is None:
        return f"Nothing in the map speaks for {name}."
    if focus.centre >= 0.5:
        text = (
            f"It looks mostly at the middle: {form.whole(focus.centre)} of the heat lies in the "
            "middle quarter of the image (of an even map: 25 %)."
        )
    elif focus.there >= 2 / 9:
        text = (
            f"It looks mostly at the {focus.place}: {form.whole(focus.there)} of the heat lies in "
            "that ninth of the image (of an even map: 11 %)."
        )
    else:
        text = (
            f"It looks at no one place: no ninth of the image has more than "
            f"{form.whole(focus.there)} of the heat."
        )
    text += f" Half of the heat lies on {form.whole(focus.half)} of the pixels."
    if focus.border >= 0.05:
        text += f" {form.whole(focus.border)} of it lies on the border around the picture."
    return text


def trust(check: Check) -> str:
    """What both checks say of a method, with their n."""
    title, n = METHODS[check.method].title, len(check.deletion.area)
    won = _won(check)
    low, high = wilson(won, n)
    if wilson(n, n)[0] <= 0.5:
        says = f"cannot be judged on {_images(n)}"
    elif low > 0.5:
        says = "finds what counts"
    elif high < 0.5:
        says = "misses what counts"
    else:
        says = "is not shown to find what counts"
    gone = f"{form.percent(float(check.deletion.area.mean()))}"
    elsewhere = f"{form.percent(float(check.deletion.control_area.mean()))}"
    text = (
        f"{title[0].upper()}{title[1:]} {says}: while pixels are removed in the order of its maps "
        f"the class keeps a mean probability of {gone}, and of {elsewhere} where the same maps are "
        f"moved elsewhere; it is lower on {won} of {_images(n)}."
    )
    level, same = list(check.randomised.items())[-1]
    if abs(same) < DESTROYED:
        fate = "they are destroyed, as they must be"
    elif abs(same) < HARDLY:
        fate = "they change in part"
    else:
        fate = "they hardly change, and so show the image rather than what was learnt"
    return (
        f"{text} With random weights in {level} {fate}: rank correlation "
        f"{_signed(same)}, "
        f"{_images(check.redrawn)}."
    )


def _won(check: Check) -> int:
    return int((check.deletion.area < check.deletion.control_area.mean(0)).sum())


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n} images"


# ---- what the template shows ----


def _image(found: Explanation, image: ExplainedImage, i: int) -> dict[str, Any]:
    predicted = found.classes[image.predicted]
    classes: dict[int, list[dict[str, Any]]] = {}
    for heat in image.heats:
        name = found.classes[heat.target]
        words = look(heat.focus, name)
        classes.setdefault(heat.target, []).append(
            _shown(overlay(image.pixels, heat.values), LARGE)
            | {"title": METHODS[heat.method].title, "words": words}
        )
    alike = [
        _shown(_learnt(found)[row], SMALL)
        | {
            "name": found.learnt.names[row],
            "label": found.classes[found.learnt.labels[row]],
            "cosine": cosine,
        }
        for row, cosine in image.alike
    ]
    return {
        "name": image.name,
        "short": re.split(r"[/\\]", image.name)[-1],
        "predicted": predicted,
        "confidence": float(image.probabilities.max()),
        "picture": _shown(image.pixels, LARGE),
        "classes": [
            {"name": found.classes[c], "probability": float(image.probabilities[c]), "maps": maps}
            for c, maps in classes.items()
        ],
        "alike": alike,
        "agree": sum(each["label"] == predicted for each in alike),
        "own": image.own,
        "stages": [_stage(stage, i) for stage in found.stages],
    }


def _stage(stage: Stage, i: int) -> dict[str, Any]:
    count, height, width = stage.shape
    shown = f"{stage.maps.shape[1]} of {count:,} maps of {height} x {width}"
    return _shown(_sheet(stage, i), ACROSS * (TILE + 1)) | {"path": stage.path, "what": shown}


def _check(check: Check) -> dict[str, Any]:
    title, deletion = METHODS[check.method].title, check.deletion
    curves = [
        plots.Curve(name, list(zip(deletion.share, values, strict=True)), style)
        for name, values, style in (
            ("hottest first", deletion.curve, "s0"),
            ("moved elsewhere", deletion.control, "s1"),
        )
    ]
    n = len(deletion.area)
    return {
        "title": title,
        "area": float(deletion.area.mean()),
        "elsewhere": float(deletion.control_area.mean()),
        "won": f"{_won(check)} of {n}",
        "n": n,
        "redrawn": check.redrawn,
        "randomised": [_signed(value) for value in check.randomised.values()],
        "curve": plots.curves(
            curves,
            f"{title}: mean probability by the share of pixels removed, {_images(n)}; area "
            f"{deletion.area.mean():.2f}, moved elsewhere {deletion.control_area.mean():.2f}.",
            form.tick,
            form.tick,
            0.0,
        ),
    }


def _channel(found: Explanation, number: int, rows: tuple[int, ...]) -> dict[str, Any]:
    pictures = []
    for row in rows:
        label = found.learnt.labels[row]
        name = found.classes[label] if label >= 0 else "unlabelled"
        shown = _shown(_learnt(found)[row], SMALL)
        pictures.append(shown | {"label": name, "name": found.learnt.names[row]})
    return {"number": number, "pictures": pictures}


def _filters(found: Explanation) -> dict[str, Any] | None:
    if found.filters is None:
        return None
    sheet = grid(found.filters.pictures, ACROSS, TILE)
    return _shown(sheet, max(sheet.shape[:2])) | {
        "path": found.filters.path,
        "count": found.filters.count,
        "shown": len(found.filters.pictures),
    }


def _learnt(found: Explanation) -> NDArray[np.uint8]:
    assert found.learnt.pixels is not None
    return found.learnt.pixels


def _sheet(stage: Stage, i: int) -> Pixels:
    return grid(greys(stage.maps[i]), ACROSS, TILE)


def _shown(pixels: Pixels, side: int) -> dict[str, Any]:
    """A picture on the page, no larger than `side`: its pixels as they are where they are few."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= TINY:
        image.save(file, "PNG", optimize=True)
    else:
        image.thumbnail((side, side))
        image.save(file, "JPEG", quality=80, optimize=True)
    source, tiny = data_uri(file.getvalue())
    return {"source": source, "tiny": tiny}


# ---- files ----


def to_json(found: Explanation, skipped: tuple[Skipped, ...]) -> dict[str, Any]:
    """The numbers of the page."""
    return {
        "images": [
            {
                "name": image.name,
                "folder": slug(image.name, number),
                "predicted": found.classes[image.predicted],
                "confidence": round(float(image.probabilities.max()), 6),
                "maps": [
                    {"method": heat.method, "class": found.classes[heat.target]}
                    | (vars(heat.focus) if heat.focus else {"empty": True})
                    for heat in image.heats
                ],
                "alike": [
                    {
                        "name": found.learnt.names[row],
                        "label": found.classes[found.learnt.labels[row]],
                        "cosine": round(cosine, 4),
                    }
                    for row, cosine in image.alike
                ],
            }
            for number, image in enumerate(found.images, 1)
        ],
        "checks": [
            {
                "method": check.method,
                "deletion_area": round(float(check.deletion.area.mean()), 4),
                "deletion_area_elsewhere": round(float(check.deletion.control_area.mean()), 4),
                "lower_on": _won(check),
                "n": len(check.deletion.area),
                "rank_correlation": {k: round(v, 4) for k, v in check.randomised.items()},
                "rank_correlation_n": check.redrawn,
            }
            for check in found.checks
        ],
        "notes": list(found.notes),
        "skipped": [vars(item) for item in skipped],
    }


def slug(name: str, number: int) -> str:
    """`photos/a b.jpg`, 3 -> `003-a-b`: the name of an image's folder."""
    stem = re.split(r"[/\\]", name)[-1].rsplit(".", 1)[0]
    return f"{number:03}-{_plain(stem)}".rstrip("-")


def _plain(text: str) -> str:
    return re.sub(r"[^\w.]+", "-", text).strip("-.")[:40]


def _file(found: Explanation, image: ExplainedImage, heat: Heat) -> str:
    if heat.target == image.predicted:
        return heat.method
    return f"{heat.method}-for-{_plain(found.classes[heat.target]) or heat.target}"


def _save(pixels: Pixels, path: Path) -> None:
    factor = max(1, -(-FILE // max(pixels.shape[:2])))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.repeat(factor, 0).repeat(factor, 1)).save(path)
