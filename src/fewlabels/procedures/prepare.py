"""From a pool and settings to what training reads: pixels, rows and views."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.augment.views import Augmenter
from fewlabels.errors import UserError
from fewlabels.evaluate.outputs import Outputs
from fewlabels.methods import Batch, Method, Views
from fewlabels.pixels import cache
from fewlabels.pixels.decode import longer_side
from fewlabels.pixels.decoded import Pixels
from fewlabels.pixels.loader import Stream
from fewlabels.pixels.preprocess import Preprocess, border_colour
from fewlabels.pool import split
from fewlabels.pool.pool import REGRESSION, SINGLE, Pool, Skipped
from fewlabels.procedures.near_duplicates import near_duplicates
from fewlabels.procedures.uses import (
    HELD_OUT,
    LABELLED,
    LEFT_OUT,
    TEST,
    UNLABELLED,
    VAL,
    Uses,
)

Rows = NDArray[np.int64]
_LABELLED, _UNLABELLED = 0, 1  # names of streams
_X = 0  # number of the labelled view
# number and policy of each unlabelled view
_VIEWS = {"weak": (1, "weak"), "strong": (2, "strong"), "other": (3, "strong")}


@dataclass(frozen=True, eq=False)
class Given:
    """What a teacher has said of unlabelled images, and how often each is to be learnt."""

    order: Rows  # [M], of the pool; an image stands there as often as an epoch shows it
    rows: Rows  # [U], each image once, ascending
    said: NDArray[np.float32]  # [U, K]

    def of(self, rows: Rows) -> torch.Tensor:
        """What was said of these images, [R, K]."""
        return torch.from_numpy(self.said[np.searchsorted(self.rows, rows)])


@dataclass(frozen=True, eq=False)
class Data:
    """The images of a run. Rows are numbers of images in the pool, wherever they appear."""

    pool: Pool  # split, with the labels that may be used
    images: Pixels  # [N, S, S, 3]
    box: NDArray[np.int64] | None  # [N, 4], where the pictures lie in them; None: everywhere
    digest: tuple[str, ...]  # [N]
    labelled: Rows  # training images with a label
    unlabelled: Rows  # training images without a label
    val: Rows
    test: Rows
    held_out: Rows  # the part of `labelled` that trials are validated on; empty where `val` is not
    skipped: tuple[Skipped, ...]
    tied: Rows  # [N], the same number for images that stay on one side of any division
    note: str = ""  # why images are decoded anew whenever they are needed, in one line
    cache_limit: int | None = None  # bytes, of the folder of decoded images
    given: Given | None = None  # for methods whose unlabelled images come with a teacher's word

    @property
    def outputs(self) -> Outputs:
        """How a model's outputs are read. What is held out has no say in it: one trial and another
        training then mean the same by the same output."""
        target = self.pool.target
        learnt = np.setdiff1d(self.labelled, self.held_out)
        return Outputs.of(self.pool.task, None if target is None else target[learnt])

    @property
    def taught(self) -> NDArray[Any]:
        """What the labels say to a loss: classes [N]; which classes [N, K]; or numbers [N, T]."""
        target = self.pool.target
        return self.pool.label if target is None else self.outputs.taught(target)


def typical_side(pool: Pool) -> int:
    """The median of the longer sides of up to 200 images, in pixels."""
    rows = np.linspace(0, len(pool) - 1, min(200, len(pool))).astype(int)
    sides = [side for row in rows if (side := _side(pool, int(row)))]
    return int(np.median(sides)) if sides else 32


def _side(pool: Pool, row: int) -> int:
    try:
        return longer_side(pool.source.read(row))
    except OSError:
        return 0


def prepare(
    pool: Pool,
    digest: tuple[str, ...],
    size: int,
    seed: int,
    per_class: int | None = None,
    count: Callable[[int, int], None] | None = None,
    spare: bool = True,
    cache_limit: int | None = None,
    begun: Uses | None = None,
) -> Data:
    """Reads the pixels of `pool`, leaves out what cannot be read, splits, keeps `per_class` labels
    a class (None: all) and holds out a part of them for validation. spare: whether the images whose
    labels are not kept are unlabelled ones; else they are not used. cache_limit: see `cache.build`.

    begun: what a run that goes on began with (`pool` is `begun.over` its pool): nothing is decided
    anew then. UserError when fewer than two classes have a label, or nothing is left to learn from.
    """
    if begun is not None:
        begun.need_same_images(pool, digest)
    pixels = cache.build(
        pool.source, digest, size, progress=count, limit=cache_limit, origin=pool.origin
    )
    bad = np.flatnonzero(~pixels.readable)
    unreadable = tuple(Skipped(pool.source.name(int(i)), pixels.reason[i]) for i in bad)
    read = partial(
        Data,
        images=pixels.images,
        box=pixels.box,
        digest=digest,
        skipped=pool.skipped + unreadable,
        note=pixels.note,
        cache_limit=cache_limit,
    )
    if begun is not None:
        return read(
            pool=pool,
            labelled=begun.rows(LABELLED, HELD_OUT),
            unlabelled=begun.rows(UNLABELLED),
            val=begun.rows(VAL),
            test=begun.rows(TEST),
            held_out=begun.rows(HELD_OUT),
            tied=begun.tied,
        )
    fine = pixels.readable
    # what cannot be read takes no place in a split
    pool = replace(pool.without_labels(~fine), split=np.where(fine, pool.split, "train"))
    pool = _without_hidden(pool)
    near = near_duplicates(pool, pixels)
    pool = split.assign(pool, seed, split.tied(pool, digest, near.drawn))
    pool = replace(pool, notes=(*pool.notes, *near.notes))
    keys = split.tied(pool, digest, near.known)
    pool = _without_late_copies(pool, keys)
    without = pool.label < 0
    if per_class:
        pool = split.keep_labels(pool, per_class, seed)
    train, has_label = (pool.split == "train") & fine, pool.label >= 0
    labelled = np.flatnonzero(train & has_label)
    if nothing := _nothing_to_learn(pool, labelled):
        raise UserError(f"{pool.origin}: {nothing} ({len(bad)} cannot); see `fewlabels check`")
    val = np.flatnonzero((pool.split == "val") & fine & has_label)
    test = np.flatnonzero((pool.split == "test") & fine & has_label)
    held_out = val[:0]
    unlabelled = train & ~has_label & (without | spare)
    copies = unlabelled & np.isin(keys, keys[np.concatenate([val, test])])
    if copies.any():  # new images will have no copy that was learnt from
        pool = replace(pool, notes=(*pool.notes, _left_out(pool, np.flatnonzero(copies))))
        unlabelled &= ~copies
    alone = pool.task == SINGLE and len(labelled) == len(np.unique(pool.label[labelled]))
    if alone and len(labelled) == fine.sum():
        raise UserError(
            f"{pool.origin}: one image a class and no others: there is nothing to learn from or to "
            "measure on; add labelled images, at least two a class, or unlabelled ones"
        )
    if not len(val):
        held_out = np.flatnonzero(split.holdout(split.strata_of(pool), pool.split, seed, keys))
        unlabelled &= ~np.isin(keys, keys[held_out])  # the same for these
    return read(
        pool=pool,
        labelled=labelled,
        unlabelled=np.flatnonzero(unlabelled),
        val=val,
        test=test,
        held_out=held_out,
        tied=keys,
    )


def _nothing_to_learn(pool: Pool, labelled: Rows) -> str:
    """Why the labels of these images tell nothing apart; "" where they do."""
    of = "labelled training image that can be read"
    if pool.target is None:
        few = len(np.unique(pool.label[labelled])) < 2
        return f"fewer than two classes have a {of}" if few else ""
    if len(np.unique(pool.target[labelled], axis=0)) >= 2:
        return ""
    what = "number" if pool.task == REGRESSION else "labels"
    return f"every {of} has the same {what}"


def _own(pool: Pool) -> Rows:
    """The labels that DATA has itself, without those of a label store, [N]."""
    return pool.label if pool.drawn_by is None else pool.drawn_by


def _without_hidden(pool: Pool) -> Pool:
    """The pool in which images of validation and test that never had a label train as unlabelled
    ones, and a note that says so."""
    hidden = (pool.label < 0) & (_own(pool) < 0)
    notes = [
        f"images of {side} without a label train as unlabelled ones: {count:,}"
        for side in ("val", "test")
        if (count := int(np.count_nonzero(hidden & (pool.split == side))))
    ]
    split = np.where(hidden & np.isin(pool.split, ("val", "test")), "train", pool.split)
    return replace(pool, split=split, notes=(*pool.notes, *notes))


def _without_late_copies(pool: Pool, keys: Rows) -> Pool:
    """The pool without the labels that a label store gives to copies of images that are measured
    on; a note about such copies whose label is the folder's."""
    measured = np.isin(pool.split, ("val", "test")) & (pool.label >= 0)
    learnt = (pool.split == "train") & (pool.label >= 0)
    copies = learnt & np.isin(keys, keys[measured])
    pool = pool.without_labels(copies & (_own(pool) < 0))
    rows = np.flatnonzero(copies & (_own(pool) >= 0))
    if not len(rows):
        return pool
    told = (
        "labelled training images that are copies of validation or test images, so that these look "
        f"easier than new ones: {len(rows):,} ({_first(pool, rows)}); see `fewlabels check`"
    )
    return replace(pool, notes=(*pool.notes, told))


def _left_out(pool: Pool, rows: Rows) -> str:
    return (
        "unlabelled copies of validation or test images, or of their groups, are not learnt from: "
        f"{len(rows):,} ({_first(pool, rows)})"
    )


def _first(pool: Pool, rows: Rows) -> str:
    return pool.source.name(int(rows[0])) + (", …" if len(rows) > 1 else "")


def uses_of(data: Data) -> Uses:
    """What a run that goes on needs to know of its images."""
    pool = data.pool
    used = np.full(len(pool), LEFT_OUT, dtype="U10")
    for use, rows in (
        (LABELLED, data.labelled),
        (HELD_OUT, data.held_out),  # a part of those
        (UNLABELLED, data.unlabelled),
        (VAL, data.val),
        (TEST, data.test),
    ):
        used[rows] = use
    name = tuple(pool.source.name(row) for row in range(len(pool)))
    target = pool.task, pool.target
    return Uses(pool.classes, name, data.digest, pool.split, pool.label, used, data.tied, *target)


def at_size(data: Data, size: int, count: Callable[[int, int], None] | None = None) -> Data:
    """The same images under the same numbers, decoded anew at another size."""
    pixels = cache.build(
        *(data.pool.source, data.digest, size),
        progress=count,
        limit=data.cache_limit,
        origin=data.pool.origin,
    )
    return replace(data, images=pixels.images, box=pixels.box, note=pixels.note)


def preprocessing(data: Data, base: Preprocess | None, size: int) -> Preprocess:
    """`base`, or mean and standard deviation of the training images' pixels."""
    if base is not None:
        return replace(base, size=size)
    rows = np.sort(np.concatenate([data.labelled, data.unlabelled]))
    some = data.images[rows[:: max(1, len(rows) // 2000)]].reshape(-1, 3) / 255.0
    mean, std = some.mean(0), np.maximum(some.std(0), 0.02)
    return Preprocess(size, _triple(mean), _triple(std))


@dataclass(frozen=True, eq=False)
class Batches:
    """The batch of a step, as a function of the step's number alone; or the part of it that one of
    several processes has: its share of the images, and the rest whole."""

    augment: Augmenter
    label: NDArray[Any]  # of all images of the pool, as `Data.taught`
    classes: int
    known: Stream
    unknown: Stream
    given: Given | None
    views: Views
    policies: dict[str, Policy]
    batch_size: int
    mix: Mix | None
    slots: int  # the images of so many steps in a row are kept in memory that is used again
    pin: bool  # in memory that a GPU reads directly
    memory_format: torch.memory_format  # as the model is trained in
    _memory: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)  # by slot and view

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_memory": {}}

    def __call__(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """UserError where the batch has no equal parts for `world` processes."""
        if self.batch_size % world:
            raise UserError(
                f"--batch-size {self.batch_size}: must be a multiple of the {world} processes"
            )

        def render(view: str, number: int, rows: Rows, epoch: Rows) -> torch.Tensor:
            policy, out = self.policies[view], self._slot(step, number, len(rows))
            return self.augment(policy, rows, epoch, number, out)

        def share(rows: Rows) -> Rows:
            return np.split(rows, world)[rank]

        rows, epoch = self.known.at(step * self.batch_size, self.batch_size)
        y = torch.from_numpy(self.label[rows])
        if self.mix is None:
            x = render(self.views.labelled, _X, share(rows), share(epoch))
        else:  # with any other image of the whole batch
            x = render(self.views.labelled, _X, rows, epoch)
            x, y = self.mix(x, y, self.classes, self.augment.seed, step)
            x = x.chunk(world)[rank]
        u = self.batch_size * self.views.ratio
        if not u:
            return Batch(x, y)
        rows, epoch = self.unknown.at(step * u, u)
        rendered = {}
        for view in self.views.unlabelled:
            number, policy = _VIEWS[view]
            rendered[view] = render(policy, number, share(rows), share(epoch))
        given = None if self.given is None else self.given.of(rows)
        return Batch(x, y, **rendered, index=torch.from_numpy(rows), given=given)

    def _slot(self, step: int, view: int, images: int) -> torch.Tensor | None:
        if not self.slots:  # each batch has its own
            return None
        key = step % self.slots, view
        if key not in self._memory:  # no two threads are at steps of one slot
            shape = (images, 3, self.augment.preprocess.size, self.augment.preprocess.size)
            self._memory[key] = torch.empty(
                shape, dtype=torch.float32, memory_format=self.memory_format, pin_memory=self.pin
            )
        return self._memory[key]


def batches(
    data: Data,
    labelled: Rows,
    unlabelled: Rows,
    method: Method,
    policies: dict[str, Policy],
    preprocess: Preprocess,
    batch_size: int,
    seed: int,
    mix: Mix | None = None,
    slots: int = 0,
    pin: bool = False,
    memory_format: torch.memory_format = torch.channels_last,
) -> Batches:
    """The batches of a method.

    The unlabelled stream holds the labelled images too: their labels are not looked at there. Where
    the images come with a teacher's word it holds those that `data.given` names.
    """
    everything = np.concatenate([np.unique(labelled), unlabelled])
    said = data.given if method.views.given else None
    assert said is not None or not method.views.given
    fill = border_colour(data.images, everything)
    return Batches(
        augment=Augmenter(data.images, preprocess, fill, seed, box=data.box),
        label=data.taught,
        classes=len(data.pool.classes),
        known=Stream(labelled, seed, _LABELLED),
        unknown=Stream(everything if said is None else said.order, seed, _UNLABELLED),
        given=said,
        views=method.views,
        policies=policies,
        batch_size=batch_size,
        mix=mix,
        slots=slots,
        pin=pin,
        memory_format=memory_format,
    )


def balanced(rows: Rows, label: NDArray[np.int64]) -> Rows:
    """`rows`, each class as often as the most frequent one: its images are repeated in turn."""
    kinds = [rows[label[rows] == c] for c in np.unique(label[rows])]
    most = max(len(kind) for kind in kinds)
    return np.concatenate([np.resize(kind, most) for kind in kinds])


def each_class_in_turn(order: Rows, label: Rows) -> Rows:
    """`order`, numbers of entries of `label`, with the first of every class before the second of
    any, so that the first few are of all classes."""
    seen: Counter[int] = Counter()
    turn = []
    for i in order:
        turn.append(seen[int(label[i])])
        seen[int(label[i])] += 1
    return order[np.argsort(turn, kind="stable")]


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    r, g, b = (round(float(v), 5) for v in values)
    return r, g, b
