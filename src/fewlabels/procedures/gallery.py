"""Pictures of a run, for its report: what it is sure of, what it makes of the unlabelled images."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from fewlabels.evaluate.explain.heat import heat
from fewlabels.pixels.decode import Unreadable, decode
from fewlabels.procedures.chosen import Chosen
from fewlabels.procedures.prepare import Data, Rows, each_class_in_turn
from fewlabels.training.folder import write_table

PICTURES = 24  # of each kind
PICTURE_SIDE = 128  # pixels
PSEUDO_LABELLED = 500  # unlabelled images that some are drawn from, at most


def write_gallery(chosen: Chosen, path: Path) -> None:
    """Pictures: the most confident right and wrong predictions, the latter with what spoke for
    them, some pseudo-labels, and some of the images that the guard has left out."""
    context, said = chosen.context, chosen.said
    data = context.data
    rows, by_method = (data.test, chosen.test) if len(data.test) else chosen.validated
    p = by_method.get(chosen.method, np.zeros((0, 1)))
    rows = rows[: len(p)]
    right, sure = p.argmax(1) == data.pool.label[rows], np.argsort(-p.max(1), kind="stable")
    best = {
        "right": each_class_in_turn(sure[right[sure]], p.argmax(1)),
        "wrong": sure[~right[sure]],
    }
    shown = [(kind, int(rows[i]), p[i]) for kind, which in best.items() for i in which[:PICTURES]]
    wrong = best["wrong"][:PICTURES]
    heats = dict(zip(rows[wrong].tolist(), _heats(chosen, rows[wrong], p[wrong]), strict=True))
    rng = np.random.default_rng(context.config.seed)
    out = chosen.guarded.out if chosen.guarded else data.unlabelled[:0]
    pool = rng.permutation(data.unlabelled)[:PSEUDO_LABELLED]
    q = said(pool)
    # half as they come, half where the model is least sure: both belong to the picture
    doubtful = np.argsort(q.max(1), kind="stable")[: PICTURES // 2].tolist()
    common = [i for i in range(len(pool)) if i not in set(doubtful)][: PICTURES // 2]
    some = sorted(common + doubtful, key=lambda i: -q[i].max())
    shown += [("pseudo", int(pool[i]), q[i]) for i in some]
    strangers = rng.permutation(out)[:PICTURES]
    shown += [("stranger", int(row), p) for row, p in zip(strangers, said(strangers), strict=True)]
    write_table(
        pa.table(
            {
                "kind": [kind for kind, _, _ in shown],
                "name": [data.pool.source.name(row) for _, row, _ in shown],
                "label": pa.array([int(data.pool.label[row]) for _, row, _ in shown], pa.int64()),
                "predicted": pa.array([int(p.argmax()) for _, _, p in shown], pa.int64()),
                "confidence": pa.array([float(p.max()) for _, _, p in shown], pa.float64()),
                "picture": pa.array([_thumbnail(data, row) for _, row, _ in shown], pa.binary()),
                "heat": pa.array([heats.get(row) for _, row, _ in shown], pa.binary()),
            }
        ),
        path,
    )


def _heats(chosen: Chosen, rows: Rows, p: NDArray[np.float64]) -> list[bytes | None]:
    """Of each image what spoke for the class that was said of it, where that can be drawn."""
    context = chosen.context
    model, images = context.model(chosen.final.weights), context.data.images[rows]
    drawn = heat(model, images, p.argmax(1), context.preprocess)
    if drawn is None:
        return [None] * len(rows)
    # without test images it was an earlier model that erred; the last one may know better
    same = chosen.said(rows).argmax(1) == p.argmax(1)
    return [
        _png(Image.fromarray(one)) if agrees else None
        for one, agrees in zip(drawn, same, strict=True)
    ]


def _thumbnail(data: Data, row: int) -> bytes:
    """The picture itself, not what the model sees of it, no larger than the report shows it."""
    try:
        image = decode(data.pool.source.read(row))
    except (OSError, Unreadable):  # gone since it was cached: no reason to lose a run
        image = Image.fromarray(data.images[row])
    return _png(image)


def _png(image: Image.Image) -> bytes:
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
