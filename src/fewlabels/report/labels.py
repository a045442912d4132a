"""What the label store of a pool holds, and what was done to it."""

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewlabels.pool.store import LabelStore

SHOWN = 10  # of the last labels


def info(path: Path) -> dict[str, Any]:
    """The current labels: where they lie, how many of each, the last ones; ready for JSON."""
    counts: Counter[str] = Counter()
    last: list[dict[str, str]] = []
    if path.exists():
        with LabelStore(path, read_only=True) as store:
            for event in store.current():
                counts[event.label or ""] += 1
                about = {"image": event.image or event.digest, "label": event.label or ""}
                last.append(about | {"who": event.who, "time": event.time, "source": event.source})
                del last[:-SHOWN]
    return {"store": str(path), "images": counts.total(), "labels": counts, "last": last}


def print_info(told: dict[str, Any], console: Console) -> None:
    """The same for the terminal."""
    lines = [f"{told['store']}: labels of {told['images']:,} images"]
    lines += [f"  {label or 'unlabelled'}: {n:,}" for label, n in sorted(told["labels"].items())]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if told["last"]:
        table = Table("image", "label", "who", "when", "from", box=None, header_style="dim")
        for one in told["last"]:
            texts = (one["image"], one["label"] or "unlabelled", one["who"], one["time"])
            table.add_row(*map(Text, (*texts, one["source"])))  # no markup is meant
        console.print(table)
