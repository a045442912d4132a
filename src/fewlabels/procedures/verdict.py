"""What a result means, in sentences: did the unlabelled images help, and what to do next.

Everything is said from the numbers of `result.json`, so that it can be said again from them.
"""

from typing import Any

SURE = 0.99  # an accuracy from which on more labels hardly pay
SURE_OF_ANOTHER = 0.99  # the probability of another class that makes a given label doubtful
GOOD = 0.9  # the accuracy that a model needs for its doubts to count
FEW_STEPS = 2000  # of a method that learns from unlabelled images: more still help
SMALL_SIDE = 48  # pixels: larger images are worth a pretrained backbone
WORST = 3  # classes that more labels are asked for


def verdict(result: dict[str, Any]) -> str:
    """Whether the unlabelled images helped, as far as this run's images can show it."""
    split = result["estimate"]
    if "baseline" not in result:
        if len(result["choice"]["candidates"]) > 1:
            return "The unlabelled images did not help: the model of the labels only was kept."
        return "Labels only: no unlabelled images were learnt from."
    if split not in result["difference"]:
        return (
            "Whether the unlabelled images helped cannot be said: no labelled image is left for it."
        )
    about = result["difference"][split]
    kind = "test" if split == "test" else "validation"
    numbers = difference(about)
    budgets = (
        "Labels only is a linear probe on the same features."
        if not result["baseline"]["steps"]
        else f"Labels only trained for {result['baseline']['steps']:,} steps "
        f"({result['baseline']['seconds']:.0f} s), {result['method']} for {result['steps']:,} "
        f"({result['training_seconds']:.0f} s)."
    )
    low, high = about["interval"]
    if low > 0 or high < 0:
        verb = "helped" if low > 0 else "did harm"
        answer = f"The unlabelled images {verb}: {numbers}, on {about['n']} {kind} images."
    else:
        answer = (
            f"The unlabelled images made no difference that {about['n']} {kind} images can show "
            f"({numbers})."
        )
    return f"{answer} {budgets}"


def difference(about: dict[str, Any]) -> str:
    """ "+9.4 points, 95 % interval +6.8 to +12.1" """
    low, high = (100 * end for end in about["interval"])
    return f"{100 * about['difference']:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"


def advice(
    result: dict[str, Any],
    side: int,
    doubtful: list[dict[str, Any]],
    recalls: list[tuple[str, int, int]],
) -> str:
    """The next best thing to do, in one sentence.

    side: of a typical image, in pixels; doubtful: labels that look wrong, each with `name`, `label`
    and `predicted`, the surest first; recalls: of each class its name, how many images were asked
    about, and how many of these were right.
    """
    score = result.get(result["estimate"])
    if score is None:
        if result["labels"] > result["classes"]:
            return "Give it labelled test images: without any nothing can be measured here."
        return "Label more images, at least two a class, so that something can be measured."
    if doubtful and score["accuracy"] >= GOOD:
        first = doubtful[0]
        more = f" and {len(doubtful) - 1} more" if len(doubtful) > 1 else ""
        return (
            f"Look at the label of {first['name']}{more}: given as {first['label']}, it looks like "
            f"{first['predicted']}."
        )
    if score["accuracy"] >= SURE:
        return "Use it: predict takes any images. More labels would hardly make it better."
    learns = result["steps"] and result["method"] not in ("supervised", "fixres")
    if learns and result["steps"] < FEW_STEPS:
        return f"Give it more time: {result['steps']:,} steps are few."
    if result["weights"] == "none" and side > SMALL_SIDE:
        return (
            "Give it pretrained weights, the strongest lever for photographs: none were at hand "
            "(--model timm:…, hf-hub:… or local-dir:…)."
        )
    worst = sorted(recalls, key=lambda about: about[2] / about[1])[:WORST]
    names = ", ".join(name for name, n, right in worst if right < n)
    return f"Label more images, of {names} first: these are recognised least."
