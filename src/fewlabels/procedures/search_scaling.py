"""`search --what scaling`: α, β and γ for one model on these images, and what each is worth.

As in Tan and Le 2019, section 3.3, φ is 1 and α·β²·γ² = 2: each candidate costs about twice the
base. It is judged beside the base, at its own image size, from random weights. Then come the curves
of their figures 3 and 8: for φ = 1, 2, … the whole factor 2^φ goes into depth, into width, into
resolution, or into all three by the best candidate's α, β and γ, on the same folds.

Blocks are whole, channels multiples of 8 and sides multiples of a step, so that costs are not
exactly 2^φ: multiply-adds are counted of the net as it is. Different numbers may make the same net;
it is trained once.
"""

import shlex
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch

from fewlabels.errors import UserError
from fewlabels.models import anatomy, catalog
from fewlabels.models.scaling import scale
from fewlabels.procedures import search
from fewlabels.procedures.config import Config
from fewlabels.procedures.prepare import Data, at_size
from fewlabels.procedures.search import Candidate, Row, Work, best, failed, judged, scored, write
from fewlabels.procedures.stage import Context
from fewlabels.procedures.start import ready
from fewlabels.settings import between

if TYPE_CHECKING:
    import optuna

MODEL = "cnn_small"  # for --model auto
LARGEST = 4096  # pixels a side, as of --img-size
# the whole factor in one of the three: their ends of the space
ALONE = {
    "depth": (2.0, 1.0, 1.0),
    "width": (1.0, 1.4142, 1.0),
    "resolution": (1.0, 1.0, 1.4142),
}

Multipliers = tuple[float, float, float]  # α, β, γ


@dataclass(frozen=True)
class Plan(search.Plan):
    """How far the curves go."""

    phi: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        between("--phi", self.phi, 1, 3)

    def settings(self, config: Config) -> Config:
        """Random weights, since a scaled net has no others. UserError for a model without
        multipliers and for a side that it is not scaled from."""
        if config.weights not in ("auto", "none"):
            raise UserError(f"--weights {config.weights}: has no effect in a search of scaling")
        model = MODEL if config.model == "auto" else config.model
        side = scale(model, 0, size=config.img_size).size
        if config.img_size not in (None, side):
            raise UserError(
                f"--img-size {config.img_size}: {model} is scaled in whole steps; "
                f"the nearest side is {side}"
            )
        largest = scale(model, self.phi, *ALONE["resolution"], config.img_size).size
        if largest > LARGEST:
            raise UserError(
                f"--img-size {config.img_size}: resolution alone would end at {largest} px, "
                f"beyond {LARGEST}; name a smaller one, or a smaller --phi"
            )
        return replace(config, model=model, weights="none")

    def space(self, context: Context) -> "Scalings":
        """UserError where the base has strides undone that a larger image would keep: the same net
        would cost less there."""
        if context.start.stem:
            raise UserError(
                f"--img-size {context.config.img_size}: {context.config.model} loses strides at "
                "this size that it has at larger ones; scale it from a larger one, such as 96"
            )
        return Scalings(context, self.phi)


@dataclass(frozen=True, eq=False)
class Scalings:
    """Larger nets of the family of `context.config.model`, on larger images."""

    context: Context
    phi: int
    data: dict[int, Data] = field(default_factory=dict)  # by side in pixels
    columns: ClassVar[tuple[str, ...]] = (
        "phi", "alpha", "beta", "gamma", "model", "img_size", "parameters", "flops",
    )  # fmt: skip
    same: ClassVar[tuple[str, ...]] = ("img_size", "parameters", "flops")

    def default(self) -> Candidate:
        return self._candidate(0, (1.0, 1.0, 1.0))

    def draw(self, trial: "optuna.Trial") -> Candidate:
        """α, β, γ from two even numbers: a point of a triangle, all of which is as likely."""
        return self._candidate(
            1, multipliers(trial.suggest_float("u", 0, 1), trial.suggest_float("v", 0, 1))
        )

    def later(self, work: Work) -> float:
        """The curves' points that are not known yet; all of the compound, which may change."""
        found = _found(work)
        return sum(
            _seconds(work, name, phi)
            for name in (*ALONE, "compound")
            for phi in range(1, self.phi + 1)
            if name == "compound" or f"{name} {phi}" not in found
        )

    def close(self, work: Work, limit: float | None) -> None:
        """Judges the points of the curves that are not known yet."""
        wanted = self._points(best(work.trials))
        for number, (name, phi, by) in enumerate(wanted):
            if _point(_found(work), name, phi, by):
                continue
            if not work.fits(_seconds(work, name, phi), limit):
                work.time_is_up(number, len(wanted), "points of the curves")
                break
            candidate = self._candidate(phi, by)
            try:
                row = judged(work, candidate)
            except UserError:  # the loss became infinite
                row = failed(candidate)
            work.study.set_user_attr(f"{name} {phi}", row)
            work.say(f"{name}, φ = {phi}: {scored(row)}  {candidate.text}")
            write(work)

    def conclude(self, work: Work, result: Row) -> Row:
        """The curves as far as they are known, and the command."""
        config, found = self.context.config, _found(work)
        curves: dict[str, list[Row]] = {name: [] for name in (*ALONE, "compound")}
        for name, phi, by in self._points(best(work.trials)):
            if row := _point(found, name, phi, by):
                curves[name].append(row)
        winner = result["winner"]
        words = [*search.command(config), "--model", winner["model"]]
        if winner["model"] == config.model != MODEL:
            words += ["--weights", "none"]  # as it was judged
        words += ["--img-size", str(winner["img_size"])]
        return {"curves": curves, "use": shlex.join(words)}

    def _points(self, first: Row | None) -> list[tuple[str, int, Multipliers]]:
        """Which curve, φ, multipliers. Without a complete trial there is nothing to compound."""
        of = dict(ALONE)
        if first is not None:
            of["compound"] = (first["alpha"], first["beta"], first["gamma"])
        return [(name, phi, by) for phi in range(1, self.phi + 1) for name, by in of.items()]

    def _candidate(self, phi: int, by: Multipliers) -> Candidate:
        """The scaled model from its first weights, and the images at its size."""
        context, config = self.context, self.context.config
        scaled = scale(config.model, phi, *by, config.img_size)
        classes = len(context.data.pool.classes)
        torch.manual_seed(config.seed)  # as every run begins
        built = catalog.build(scaled.name, classes, "none")
        built = ready(built, scaled.name, scaled.size, classes, config)
        totals = anatomy.totals(built.model, scaled.size)
        told = (phi, *by, scaled.name, scaled.size, totals.parameters, totals.flops)
        return Candidate(
            f"{scaled.name} at {scaled.size} px",
            dict(zip(self.columns, told, strict=True)),
            replace(
                context,
                config=replace(config, model=scaled.name, img_size=scaled.size),
                start=built,
                data=self._at(scaled.size),
                preprocess=replace(context.preprocess, size=scaled.size),
            ),
        )

    def _at(self, size: int) -> Data:
        """The images of the search at another size."""
        if size == self.context.config.img_size:
            return self.context.data
        if size not in self.data:
            events = self.context.events
            with events.stage(f"decoding at {size} px"):
                self.data[size] = at_size(self.context.data, size, events.count)
        return self.data[size]


def multipliers(u: float, v: float) -> Multipliers:
    """α, β, γ with α·β²·γ² = 2, to four decimals, from u and v in 0..1.

    2 is 2^a·2^b·2^c with a + b + c = 1: a point of a triangle, which √u and v fill evenly. So
    α = 2^a, β = 2^(b/2), γ = 2^(c/2), each at least 1.

    >>> multipliers(0.0, 0.5)
    (2.0, 1.0, 1.0)
    """
    rest = u**0.5
    a, b, c = 1 - rest, rest * (1 - v), rest * v
    return round(2**a, 4), round(2 ** (b / 2), 4), round(2 ** (c / 2), 4)


def _seconds(work: Work, name: str, phi: int) -> float:
    """What a point would take, were it as many times as slow as it is meant to cost."""
    if (name, phi) == ("compound", 1):  # the best trial
        return 0.0
    return float(work.default["seconds"] * 2**phi)


def _found(work: Work) -> Row:
    """The curves' points that have been judged, by curve and φ."""
    return work.study.user_attrs


def _point(found: Row, name: str, phi: int, by: Multipliers) -> Row | None:
    """A judged point; None where it is of the best trial of an earlier time."""
    row: Row | None = found.get(f"{name} {phi}")
    if row is None or (row["alpha"], row["beta"], row["gamma"]) != by:
        return None
    return row
