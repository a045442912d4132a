"""What the terminal shows of an evaluation; --json and the report have all of it."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewlabels.report.form import percent, points, span

WORST = 5  # classes
ALL = 15  # corruptions
LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "top5_accuracy": "top-5 accuracy",
    "accuracy_among_its_classes": "accuracy among the classes of these images",
}
NOTICED = {
    "known_flagged": "known images that are flagged as unknown",
    "strangers_flagged": "strangers that are flagged",
    "auroc": "AUROC of strangers",
    "fpr_at_95_tpr": "strangers that pass where 95 % of the known do",
}


def print_evaluation(found: dict[str, Any], kept: Path | None, console: Console) -> None:
    """Accuracy, calibration, unknown images, the worst classes, then what was asked for."""
    if "accuracy" in found:
        _accuracy(found, console)
    else:
        _say(console, f"{found['data']}: ImageNet-C's own files")
    if skipped := found["skipped"]:
        first = f"{skipped[0]['name']}: {skipped[0]['reason']}"
        _say(console, f"{len(skipped):,} are not counted, such as {first}")
    if "corruptions" in found:
        _corruptions(found["corruptions"], console)
    if "perturbations" in found:
        _perturbations(found["perturbations"], console)
    if "adversarial" in found:
        _attacks(found["adversarial"], console)
    if "stress" in found:
        _stress(found["stress"], console)
    if "not_kept" in found:
        _say(console, f"This could not be kept: {found['not_kept']}")
    if kept is not None:
        console.print()
        _say(console, f"All of it: {kept}; report: {kept.parents[1] / 'report.html'}")


def _accuracy(found: dict[str, Any], console: Console) -> None:
    said = f"{found['data']}: {found['images']:,} labelled images"
    if found["strangers"]:
        said += f", {found['strangers']:,} of them of classes that the classifier does not know"
    _say(console, said)
    console.print()
    table = _table("", "", "95 % interval", "images")
    for name, label in LABELS.items():
        if name in found:
            table.add_row(label, *_numbers(found[name], name))
    calibration = found["calibration"]
    table.add_row("expected calibration error", *_numbers(calibration["ece"], "ece"))
    for name, label in NOTICED.items():
        if name in found.get("unknown", {}):
            table.add_row(label, *_numbers(found["unknown"][name], name))
    console.print(table)
    _learnt(found, console)
    _classes(found["classes"], console)


def _learnt(found: dict[str, Any], console: Console) -> None:
    if "learnt_from" not in found:
        return
    learnt = found["learnt_from"]
    said = f"Warning: the run has learnt from {learnt['images']:,} of these images, or was chosen "
    said += "by them; "
    if "others" in learnt:
        value, interval, n = _numbers(learnt["others"], "accuracy")
        said += f"on the {n} others it has {value} right ({interval})."
    else:
        said += "there are no others, so these numbers say nothing about new images."
    console.print()
    console.print(said, style="bold yellow", highlight=False)


def _classes(rows: list[dict[str, Any]], console: Console) -> None:
    missed = [row for row in rows if "recall" in row and row["recall"]["recall"] < 1]
    worst = sorted(missed, key=lambda row: float(row["recall"]["recall"]))[:WORST]
    if not worst:
        return
    table = _table("worst classes", "recall", "95 % interval", "images", "precision")
    for row in worst:
        precision = percent(row["precision"]["precision"]) if "precision" in row else "-"
        table.add_row(Text(row["class"]), *_numbers(row["recall"], "recall"), precision)
    console.print()
    console.print(table)


def _corruptions(found: dict[str, Any], console: Console) -> None:
    table = _table("corruption, by severity", "1", "2", "3", "4", "5")
    for name, row in found["accuracy"].items():
        table.add_row(name.replace("_", " "), *(percent(cell["accuracy"]) for cell in row))
    console.print()
    console.print(table)
    if "c_like_error" in found:
        error, where = percent(found["c_like_error"]), f"on {found['n']:,} images"
        between = f" ({span(found['interval'])})" if "interval" in found else ""
        of = found.get("of", ALL)
        _say(console, f"C-like error {error}{between}: the mean over {of} of {ALL}, {where}")
    if "mce" in found:
        _say(console, f"mCE {percent(found['mce'])}: relative to AlexNet's errors")


def _perturbations(found: dict[str, Any], console: Console) -> None:
    table = _table("perturbation", "flips", "95 % interval", "images")
    for name, rate in found["flip_rate"].items():
        table.add_row(name.replace("_", " "), *_numbers(rate, "flip_rate"))
    console.print()
    console.print(table)
    rate, interval, _ = _numbers(found, "mean_flip_rate")
    _say(
        console,
        f"mean flip rate {rate} ({interval}): answers that change from one frame to the next",
    )


def _attacks(found: dict[str, Any], console: Console) -> None:
    levels = [f"{cell['epsilon']:g}" for cell in next(iter(found.values()))]
    table = _table("accuracy under attack, by ε in levels of 255", *levels)
    for name, row in found.items():
        table.add_row(name.upper(), *(percent(cell["accuracy"]) for cell in row))
    console.print()
    console.print(table)


def _stress(rows: list[dict[str, Any]], console: Console) -> None:
    table = _table("stress", "5 points are lost at", "change at the last level")
    for row in rows:
        at, last = row["falls_at"], row["levels"][-1]
        where = f"{at:.3g} {row['unit']}" if at is not None else "nowhere"
        lost = f"{points(last['difference']['difference'])} points at {last['level']:g}"
        table.add_row(row["cause"], where, lost)
    console.print()
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _numbers(told: dict[str, Any], name: str) -> tuple[str, str, str]:
    return percent(told[name]), span(told["interval"]), f"{told['n']:,}"


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
