"""What is in a pool and what is wrong with it: every image is read once."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewlabels.curate.balance import Balance, balance
from fewlabels.curate.far import far
from fewlabels.errors import one_line
from fewlabels.pixels import perceptual
from fewlabels.pixels.anchors import anchors, closeness
from fewlabels.pixels.decode import decode
from fewlabels.pool.copies import Copies, Copy, as_copies, copy_of, same
from fewlabels.pool.labels import no_classes, says_no_class
from fewlabels.pool.pool import SINGLE, Pool, Skipped, divided_groups
from fewlabels.pool.source import content_digest
from fewlabels.pool.threads import THREADS, each

Progress = Callable[[str, int, int], None]  # (what, done, total)

MEAN_SIDE = 48  # of class-mean pictures
CELLS = 8  # the features: colour and contrast in 8 x 8 parts of the picture
CLASS_NEEDS = 20  # labelled images, for one of them to be far from its class
SHAPES = (
    (0.5, "taller than 1:2"),
    (0.95, "upright"),
    (1.05, "square"),
    (2.0, "wide"),
    (math.inf, "wider than 2:1"),
)


@dataclass(frozen=True)
class Sizes:
    """Pixels over all readable images; the median is of widths and heights apart."""

    least: tuple[int, int]  # width x height of the image with the fewest pixels
    median: tuple[int, int]
    most: tuple[int, int]
    longer_side: dict[str, int]  # {"64 to 127": n, …}, in the order of size
    shape: dict[str, int]  # {"upright": n, …}, see SHAPES


@dataclass(frozen=True)
class Far:
    """An image far from all others, or from its class."""

    name: str
    label: str  # "" = unlabelled
    times: float  # as far from its neighbours as usual


@dataclass(frozen=True)
class Checked:
    """What `check` found. Everything is in the order of the pool, but `far` and `far_from_class`,
    of which the farthest come first."""

    origin: str
    images: int
    counts: dict[str, dict[str, int]]  # {split: {class: n, …, "unlabelled": n}}
    unreadable: tuple[Skipped, ...]
    skipped: tuple[Skipped, ...]  # files that scan left out
    duplicates: tuple[tuple[str, ...], ...]  # names of the same picture, a tuple a picture
    leaks: tuple[tuple[Copy, ...], ...]  # those of them that stand in more than one split
    contradictions: tuple[tuple[Copy, ...], ...]  # those of them with different labels
    near: Copies  # the same of groups that are nearly the same; they may hold exact copies too
    leaking: dict[str, int]  # {split: images, other than of train, with a copy in another split}
    divided: tuple[tuple[Copy, ...], ...]  # labelled images of a group in more than one split
    blank: tuple[str, ...]  # names of images that show nothing
    far: tuple[Far, ...]
    far_from_class: tuple[Far, ...]
    no_class: tuple[str, ...]  # classes whose name says that they are none
    sizes: Sizes | None  # None when no image could be read
    balance: Balance  # of the unlabelled images
    lacks: str  # why no classifier can be trained from it
    notes: tuple[str, ...]  # what scan made of it that its owner may not expect

    @property
    def leaky(self) -> bool:
        """Whether a picture, nearly the same one, or a group stands in more than one split."""
        return bool(self.leaks or self.near.leaks or self.divided)

    def to_json(self) -> dict[str, Any]:
        """As plain dictionaries, lists, numbers and strings."""
        plain = asdict(self)
        plain["balance"] = {
            "shares": {n: e.to_json("share") for n, e in self.balance.shares.items()},
            "probe": self.balance.probe.to_json("accuracy") if self.balance.probe else None,
            "why": self.balance.why,
        }
        return plain


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is kept of the images: class means and where a name's image is, for a page, and what
    they are known by."""

    means: dict[str, NDArray[np.uint8]]  # class -> [MEAN_SIDE, MEAN_SIDE, 3]
    row: dict[str, int]
    digest: tuple[str, ...]  # of each image's bytes, "" where they cannot be read


@dataclass(frozen=True, eq=False)
class _Read:
    """One image, or why there is none; both digests are "" where it cannot be read."""

    digest: str  # of the picture; of the bytes, where they are no picture
    content: str  # of the bytes
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    grey: NDArray[np.uint8] | None = None
    colour: NDArray[np.uint8] | None = None


def check(
    pool: Pool, progress: Progress | None = None, workers: int = THREADS
) -> tuple[Checked, Pictures]:
    """Reads and decodes every image once, by threads; about 1.5 kB are kept of each.

    `progress(what, done, total)` is called from the calling thread. An image that cannot be decoded
    still counts among the exact duplicates: its bytes are known. No model is asked: neither torch
    nor weights are needed.
    """
    show = progress or (lambda what, done, total: None)
    count = len(pool)
    unreadable: list[Skipped] = []
    digests: list[str] = []
    contents: list[str] = []
    sizes = np.zeros((count, 2), np.int64)
    grey = np.zeros((count, perceptual.SIDE, perceptual.SIDE), np.uint8)
    features = np.zeros((count, CELLS * CELLS * 4), np.uint8)
    sums = np.zeros((len(pool.classes), MEAN_SIDE, MEAN_SIDE, 3), np.int64)
    readable = np.zeros(count, np.bool_)
    number = np.zeros(len(pool.classes), np.int64)
    for row, read in enumerate(each(lambda row: _read(pool, row), count, workers)):
        digests.append(read.digest)
        contents.append(read.content)
        if read.grey is None or read.colour is None:
            unreadable.append(Skipped(pool.source.name(row), read.reason))
        else:
            readable[row], sizes[row], grey[row] = True, read.size, read.grey
            features[row] = _features(read.colour, read.grey)
            of = classes_of(pool, row)
            sums[of] += read.colour
            number[of] += 1
        show("reading", row + 1, count)
    exact = same(digests)
    near, near_notes = _near(pool, grey, sizes, readable, exact, workers, show)
    plain = np.flatnonzero(readable & perceptual.blank(grey))
    shows = np.setdiff1d(np.flatnonzero(readable), plain)
    copies = as_copies(pool, exact)
    checked = Checked(
        origin=pool.origin,
        images=count,
        counts=pool.counts(),
        unreadable=tuple(unreadable),
        skipped=pool.skipped,
        duplicates=copies.duplicates,
        leaks=copies.leaks,
        contradictions=copies.contradictions,
        # Groups that are nothing but exact copies have been told.
        near=as_copies(pool, [g for g in near if len({digests[row] for row in g}) > 1]),
        leaking=_leaking(pool, near),
        divided=tuple(
            tuple(copy_of(pool, int(row)) for row in rows) for rows in divided_groups(pool)
        ),
        blank=tuple(pool.source.name(int(row)) for row in plain),
        far=_far(pool, features, shows),
        far_from_class=_far_from_class(pool, features, shows),
        no_class=no_classes(pool),
        sizes=_sizes(sizes[readable]),
        balance=_balance(pool, features, shows),
        lacks=pool.lacks,
        notes=(*pool.notes, *near_notes),
    )
    means = {
        name: np.rint(sums[i] / number[i]).astype(np.uint8)
        for i, name in enumerate(pool.classes)
        if number[i]
    }
    row_of = {pool.source.name(row): row for row in range(count)}
    return checked, Pictures(means, row_of, tuple(contents))


def classes_of(pool: Pool, row: int) -> NDArray[np.int64]:
    """The numbers of an image's classes."""
    if pool.task == SINGLE:
        return pool.label[row : row + 1][pool.label[row : row + 1] >= 0]
    if pool.classes and pool.target is not None:
        return np.flatnonzero(pool.target[row])
    return np.zeros(0, np.int64)


def _by_class(pool: Pool, rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Those of `rows` that are of each class."""
    if pool.task != SINGLE:
        for number in range(len(pool.classes)):
            yield rows[np.asarray(pool.target)[rows, number]]
        return
    labelled = rows[pool.label[rows] >= 0]
    order = labelled[np.argsort(pool.label[labelled], kind="stable")]
    yield from np.split(order, np.flatnonzero(np.diff(pool.label[order])) + 1)


def _read(pool: Pool, row: int) -> _Read:
    try:
        data = pool.source.read(row)
    except OSError as error:
        return _Read("", "", " ".join((error.strerror or str(error)).split()))
    content = content_digest(data)
    try:
        picture = decode(data)
    except Exception as error:  # whatever a decoder may raise is the reason that we report
        return _Read(content, content, one_line(error))
    digest = hashlib.sha256(f"{picture.width} {picture.height} ".encode())
    digest.update(picture.tobytes())
    colour = picture.resize((MEAN_SIDE, MEAN_SIDE), Image.Resampling.BILINEAR, reducing_gap=3)
    grey = perceptual.small(picture)
    return _Read(digest.hexdigest(), content, "", picture.size, grey, np.asarray(colour))


def _features(colour: NDArray[np.uint8], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean colour of 8 x 8 parts of a picture, and four times the deviation of grey in each."""
    side = MEAN_SIDE // CELLS
    mean = colour.reshape(CELLS, side, CELLS, side, 3).mean(axis=(1, 3)).ravel()
    side = perceptual.SIDE // CELLS
    contrast = grey.reshape(CELLS, side, CELLS, side).std(axis=(1, 3)).ravel()
    both: NDArray[np.uint8] = np.minimum(np.concatenate([mean, 4 * contrast]), 255).astype(np.uint8)
    return both


def _near(
    pool: Pool,
    grey: NDArray[np.uint8],
    sizes: NDArray[np.int64],
    readable: NDArray[np.bool_],
    exact: list[list[int]],
    workers: int,
    show: Progress,
) -> tuple[list[list[int]], list[str]]:
    """Rows of the same and nearly the same picture, a list a group; and what was not looked for."""
    chosen, note = anchors(pool, every=True)
    compared = readable & (sizes.min(axis=1) >= perceptual.LEAST)
    for first, *others in exact:
        compared[others] = False
        chosen[first] |= chosen[others].any()
    found = perceptual.pairs(
        *(grey, compared, chosen),
        mirror=pool.mirror,
        workers=workers,
        progress=show,
    )
    same_picture = [(group[0], row) for group in exact for row in group[1:]]
    links = np.concatenate([found.pairs, np.array(same_picture, np.int64).reshape(-1, 2)])
    number = perceptual.clusters(len(pool), links)
    groups: dict[int, list[int]] = {}
    for row in np.flatnonzero(np.bincount(number)[number] > 1).tolist():
        groups.setdefault(int(number[row]), []).append(row)
    return list(groups.values()), [line for line in (note, closeness(found.alike)) if line]


def _leaking(pool: Pool, groups: list[list[int]]) -> dict[str, int]:
    leaking: Counter[str] = Counter()
    for group in groups:
        splits = [str(pool.split[row]) for row in group if pool.split[row]]
        if len(set(splits)) > 1:
            leaking.update(split for split in splits if split != "train")
    return dict(leaking)


def _far(pool: Pool, features: NDArray[np.uint8], rows: NDArray[np.int64]) -> tuple[Far, ...]:
    found, times = far(features[rows])
    return _named(pool, rows[found].tolist(), times.tolist())


def _far_from_class(
    pool: Pool, features: NDArray[np.uint8], rows: NDArray[np.int64]
) -> tuple[Far, ...]:
    all_rows: list[int] = []
    all_times: list[float] = []
    for of_class in _by_class(pool, rows):
        if len(of_class) >= CLASS_NEEDS:
            found, times = far(features[of_class])
            all_rows += of_class[found].tolist()
            all_times += times.tolist()
    order = np.argsort(-np.array(all_times), kind="stable").tolist()
    return _named(pool, [all_rows[i] for i in order], [all_times[i] for i in order])


def _named(pool: Pool, rows: list[int], times: list[float]) -> tuple[Far, ...]:
    return tuple(
        Far(pool.source.name(row), pool.label_text(row), round(by, 2))
        for row, by in zip(rows, times, strict=True)
    )


def _balance(pool: Pool, features: NDArray[np.uint8], rows: NDArray[np.int64]) -> Balance:
    """Of the images that would train: what is labelled, and what is not."""
    if pool.task != SINGLE:
        return Balance({}, None, "an image has not one class")
    named = [i for i, name in enumerate(pool.classes) if not says_no_class(name)]
    number = np.full(len(pool.classes) + 1, -2)  # of a class that is none: left out
    number[named] = np.arange(len(named))
    number[-1] = -1
    label = number[pool.label[rows]]
    used = np.isin(pool.split[rows], ("train", "")) & (label >= -1)
    return balance(
        features[rows[used]],
        label[used],
        tuple(pool.classes[i] for i in named),
    )


def _sizes(sizes: NDArray[np.int64]) -> Sizes | None:
    if not len(sizes):
        return None
    distinct, often = np.unique(sizes, axis=0, return_counts=True)
    of_size = {(w, h): n for (w, h), n in zip(distinct.tolist(), often.tolist(), strict=True)}
    # Sorting by pixels, then by width, makes ties repeatable.
    ordered = sorted(of_size, key=lambda size: (size[0] * size[1], size))
    width, height = np.median(sizes, axis=0).tolist()
    powers: Counter[int] = Counter()
    shapes: Counter[str] = Counter()
    for (w, h), n in of_size.items():
        powers[max(w, h).bit_length() - 1] += n
        shapes[next(name for most, name in SHAPES if w / h <= most)] += n
    return Sizes(
        ordered[0],
        (round(width), round(height)),
        ordered[-1],
        {f"{2**p} to {2 ** (p + 1) - 1}": powers[p] for p in sorted(powers)},
        {name: shapes[name] for _, name in SHAPES if shapes[name]},
    )
