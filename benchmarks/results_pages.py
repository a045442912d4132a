"""What benchmarks/results.py has measured, as tables: docs/results.md and the methods' pages."""

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabels.methods import METHODS


def spread(values: list[float], unit: str = "") -> str:
    """ "97.1 ± 0.4", and of how many where they are fewer than three."""
    if not values:
        return ""
    sd = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    few = f" ({len(values)} draw{'s'[: len(values) - 1]})" if len(values) < 3 else ""
    return f"{statistics.mean(values):.1f}{sd}{unit}{few}"


def of(rows: list[Any], value: str = "accuracy", **wanted: str) -> list[Any]:
    """That value of the rows that are as `wanted`."""
    some = [row for row in rows if all(getattr(row, k) == v for k, v in wanted.items())]
    return [getattr(row, value) for row in some]


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, marks, *lines))


def methods_table(rows: list[Any], pools: list[str]) -> str:
    """Methods by pools, the best on average first."""

    def mean(method: str) -> float:
        found = of(rows, table="methods", method=method)
        return -statistics.mean(found) if found else 0.0

    def steps(method: str) -> str:
        found = of(rows, "steps", table="methods", method=method)
        return f"{statistics.mean(found):,.0f}" if found else ""

    lines = [
        [
            f"[`{method}`](methods/{method}.md)",
            *(spread(of(rows, table="methods", pool=pool, method=method)) for pool in pools),
            steps(method),
        ]
        for method in sorted(METHODS, key=mean)
    ]
    return table(["method", *pools, "steps"], lines)


def best_table(rows: list[Any], best: str) -> str:
    lines = []
    for pool in ("sign-digits-20", "sign-digits-50"):
        found = of(rows, table="best", pool=pool)
        each = ", ".join(f"{value:.1f}" for value in found)
        base = spread(of(rows, "labels_only", table="best", pool=pool))
        lines.append([pool, base, spread(found), each])
    return table(["images", "labels only, a fifth of the time", best, "draws"], lines)


def polluted_table(rows: list[Any]) -> str:
    lines = [
        [
            what,
            *(
                spread(of(rows, table="polluted", pool=pool, variant=f"--guard {guard}"))
                for guard in ("on", "off")
            ),
            ", ".join(
                f"{left:,}"
                for left in of(rows, "left_out", table="polluted", pool=pool, variant="--guard on")
            ),
        ]
        for what, pool in (
            ("hand signs alone", "sign-digits-50"),
            ("and as many photographs of CIFAR-10", "sign-digits-50+cifar"),
        )
    ]
    return table(["unlabelled images", "with the guard", "without", "left out by it"], lines)


def imbalanced_table(rows: list[Any], best: str) -> str:
    lines = [
        [
            f"`--balance {how}`",
            *(
                spread(of(rows, value, table="imbalanced", variant=f"--balance {how}"))
                for value in ("labels_only_balanced", "balanced")
            ),
        ]
        for how in ("none", "sampling", "logits")
    ]
    return table(["balanced accuracy", "labels only", best], lines)


def noise_table(rows: list[Any], noise: Mapping[str, str]) -> str:
    """Noisy Student, its first teacher and each round's student."""
    lines = []
    for name, variant in noise.items():
        found = [
            row for row in rows if (row.table, row.variant) == ("noise", variant) and row.rounds
        ]
        rounds = [[float(value) for value in row.rounds.split()] for row in found]
        count = max(map(len, rounds), default=0)
        each = " → ".join(spread([one[i] for one in rounds if len(one) > i]) for i in range(count))
        lines.append([name, spread([row.labels_only for row in found]), each])
    return table(["noise", "first teacher", "students, round by round"], lines)


def auto_table(rows: list[Any], best: str) -> str:
    """`auto` beside what it chooses among."""
    methods = ("auto", "supervised", "fixmatch", best)
    lines = []
    for pool in ("digits-20", "sign-digits-50", "cifar10-25", "cifar10-400"):
        cells = []
        for method in methods:
            own = of(rows, table="auto", pool=pool, method=method)
            cells.append(spread(own or of(rows, table="methods", pool=pool, method=method)))
        lines.append([pool, *cells])
    return table(["images", *methods], lines)


def write(
    rows: list[Any], note: str, docs: Path, pools: list[str], best: str, noise: Mapping[str, str]
) -> None:
    """docs/results.md from its template, and each method's own line into its page."""
    page = (Path(__file__).parent / "results.md").read_text(encoding="utf-8")
    made = {
        "missing": note,
        "methods": methods_table(rows, pools),
        "best": best_table(rows, best),
        "polluted": polluted_table(rows),
        "imbalanced": imbalanced_table(rows, best),
        "noise": noise_table(rows, noise),
        "auto": auto_table(rows, best),
    }
    for name, text in made.items():
        page = page.replace(f"<!-- {name} -->", text)
    page = re.sub(r"\n{3,}", "\n\n", page)  # where there was nothing to say
    (docs / "results.md").write_text(page, encoding="utf-8")
    for method in METHODS:
        told = []
        for pool in pools:
            ours, base = (
                spread(of(rows, table="methods", pool=pool, method=name), " %")
                for name in (method, "supervised")
            )
            if ours:
                beside = f" (labels only {base})" if method != "supervised" and base else ""
                told.append(f"{pool} {ours}{beside}")
        if told:
            line = f"Two minutes on one thread: {'; '.join(told)}. [All methods](../results.md)"
            measured(docs / "methods" / f"{method}.md", f"<!-- results:{method} -->", line)


def measured(file: Path, mark: str, line: str) -> None:
    """Puts the line below the mark, which ends the page, in the place of what stood there."""
    before = file.read_text(encoding="utf-8").partition(mark)[0]
    file.write_text(f"{before}{mark}\n\n{line}\n", encoding="utf-8")
