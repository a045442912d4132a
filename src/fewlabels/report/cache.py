"""The cache of decoded images: what lies in it, and what was deleted of it."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewlabels.pixels.cache_folder import FEATURES, clear, entries, in_words, limit_of


def info(folder: Path) -> dict[str, Any]:
    """What lies in the folder, what was used last first; ready for JSON. Sizes are in bytes."""
    found = entries(folder)
    return {
        "folder": str(folder),
        "limit": limit_of(folder),
        "bytes": sum(entry.bytes for entry in found),
        "images": sum(entry.images for entry in found),
        "caches": [asdict(entry) for entry in found],
    }


def cleared(folder: Path) -> dict[str, Any]:
    """Deletes what no running process uses; what was deleted and what was left, ready for JSON."""
    gone, left = clear(folder)
    return {
        "folder": str(folder),
        "freed": sum(entry.bytes for entry in gone),
        "deleted": [asdict(entry) for entry in gone],
        "left": [asdict(entry) for entry in left],
    }


def print_info(told: dict[str, Any], console: Console) -> None:
    _line(
        f"{told['folder']}: {len(told['caches'])} caches, {told['images']:,} images, "
        f"{in_words(told['bytes'])} of at most {in_words(told['limit'])}",
        console,
    )
    _print(told["caches"], console)


def print_cleared(told: dict[str, Any], console: Console) -> None:
    count, left = len(told["deleted"]), told["left"]
    _line(f"{told['folder']}: {in_words(told['freed'])} freed, {count} caches deleted", console)
    if left:
        _line("left, because a process uses them or they cannot be deleted:", console)
        _print(left, console)


def _print(caches: list[dict[str, Any]], console: Console) -> None:
    if not caches:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, side in (("last used", "left"), ("images", "right"), ("px", "right")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    table.add_column("size", justify="right")
    table.add_column("made for")
    for one in caches:
        state = " (in use)" * one["in_use"] + " (unfinished)" * (not one["complete"])
        kind = "features of a backbone" if one["kind"] == FEATURES else one["origin"] or "unknown"
        table.add_row(
            f"{datetime.fromtimestamp(one['used']):%Y-%m-%d %H:%M}",
            f"{one['images']:,}" if one["images"] else "",
            str(one["size"] or ""),
            in_words(one["bytes"]),
            Text(kind + state),
        )
    console.print(table)


def _line(text: str, console: Console) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
