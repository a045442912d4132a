"""Several runs predict together: nothing is trained."""

from typing import Any

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import accuracy, gain
from fewlabels.models.built import Built
from fewlabels.models.catalog import ENSEMBLE
from fewlabels.procedures.chosen import Chosen, keep
from fewlabels.procedures.earlier import Earlier, ensemble
from fewlabels.procedures.stage import Context, Trained
from fewlabels.procedures.verdict import difference

METHOD = "ensemble"


def begun_from(runs: tuple[Earlier, ...], classes: tuple[str, ...]) -> tuple[str, Built]:
    """The name of the ensemble, and the ensemble. UserError for fewer than two runs."""
    if len(runs) < 2:
        raise UserError("--method ensemble: name at least two runs, each with --run")
    return ENSEMBLE, ensemble(runs, classes)


def run(context: Context) -> Chosen:
    """Asks the ensemble, and each of its members, about the test images."""
    data, began = context.data, context.clock()
    model = context.model()
    val, test = (context.probabilities(model, rows) for rows in (data.val, data.test))
    whole = Trained(
        context.model().state_dict(), 0, context.clock() - began, len(val) + len(test), val
    )
    keep(context, METHOD, whole)
    members = []
    for earlier in context.earlier:
        seen = context.asked_as(earlier.preprocess, earlier.tta)
        alone = earlier.member(earlier.preprocess, data.pool.classes)
        p = seen.probabilities(alone.to(context.fabric.device), data.test)
        members.append((earlier.name, p.argmax(1) == data.pool.label[data.test]))
    right = test.argmax(1) == data.pool.label[data.test]
    group = None if data.pool.group is None else data.pool.group[data.test]
    told: list[dict[str, Any]] = []
    for name, its in members if len(data.test) else ():
        about = {"test": accuracy(its, group), "difference": gain(right, its, group)}
        told.append({"run": name} | about)
    return Chosen(
        context=context,
        method=METHOD,
        stages=(whole,),
        baseline=(),
        val={METHOD: val} if len(val) else {},
        test={METHOD: test},
        why=f"{len(members)} runs together",
        more={"members": told} if told else {},
        beside=METHOD,
        verdict=verdict(told, len(members), len(right)),
    )


def verdict(told: list[dict[str, Any]], count: int, n: int) -> str:
    """How much more the ensemble has right than the best of its members."""
    if not told:
        return f"An ensemble of {count} runs; without test images it cannot be compared with them."
    best = min(told, key=lambda one: float(one["difference"]["difference"]))
    return (
        f"The ensemble of {count} runs and the best of them on these images, {best['run']}: "
        f"{difference(best['difference'])}, on {n:,} test images."
    )
