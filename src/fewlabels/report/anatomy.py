"""A model in the terminal, and as one page: its layers, and how signals pass through them."""

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from fewlabels.models.examine import Examined
from fewlabels.models.signals import Signal
from fewlabels.report import plots
from fewlabels.report.listing import short, show
from fewlabels.training.folder import write_text

BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a character
BAR = 8  # characters
CONVENTION = (
    "FLOPs are multiply-adds of convolutions and matrix products. A field is the side, in pixels, "
    "of what one unit sees of the image, a jump the distance between neighbours."
)


def print_model(model: Examined, console: Console) -> None:
    """Layers, totals and paper; then signals and warnings, if they were measured."""
    table = _table("layer", "", "output", "parameters", "FLOPs", "field", "jump")
    for layer in model.layers:
        table.add_row(
            layer.path or "(model)",
            layer.kind,
            " x ".join(map(str, layer.shape)),
            short(layer.parameters) if layer.parameters else "·",
            short(layer.flops) if layer.flops else "·",
            seen(layer.field),
            str(layer.jump or "·"),
        )
    show(table, console)
    console.print()
    for line in (*facts(model), CONVENTION):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if model.signals:
        console.print()
        _print_signals(model.signals, console)
        console.print()
        for line in model.warnings or (sound(model),):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def facts(model: Examined) -> list[str]:
    """What the table adds up to, and where the model comes from."""
    lines = [
        f"{model.name} at {model.size} px, {model.classes:,} classes: "
        f"{short(model.totals.parameters)} parameters, {short(model.totals.flops)} FLOPs"
    ]
    unused = model.totals.parameters - sum(layer.parameters for layer in model.layers)
    if unused:
        lines.append(
            f"{short(unused)} of the parameters are used in training only, by auxiliary classifiers"
        )
    if model.field is not None:
        lines.append(f"Receptive field: {model.field} px before the whole image is seen at once")
    if model.stem:
        lines.append(f"Changed for small images: {model.stem}")
    entry = model.entry
    if entry:
        parts = [entry.family, str(entry.year or ""), entry.paper]
        lines.append(", ".join(part for part in parts if part))
    return lines


def sound(model: Examined) -> str:
    """The sentence where there is no warning."""
    return (
        f"Activations and gradients stay within a factor of 1,000 from the first to the last of "
        f"{sum(signal.weights for signal in model.signals)} layers with weights."
    )


def seen(field: int | None) -> str:
    """A field as text; None is the whole image."""
    return "all" if field is None else str(field)


def write(model: Examined, target: Path) -> None:
    """Writes the page, which loads nothing and runs no script."""
    write_text(target, render(model))


def render(model: Examined) -> str:
    """The page as text."""
    from fewlabels.report.html import template  # half a second, which the terminal has no need of

    weighted = [signal for signal in model.signals if signal.weights]
    return template("anatomy.html").render(
        model=model,
        entry=model.entry,
        facts=facts(model)[1:],
        convention=CONVENTION,
        short=short,
        seen=seen,
        scientific=scientific,
        weighted=weighted,
        verdict=model.warnings or (sound(model),),
        activations=chart("Activation", [signal.std for signal in weighted]),
        gradients=chart("Gradient", [signal.gradient for signal in weighted]),
    )


def chart(what: str, values: Sequence[float]) -> Markup | None:
    """Sizes by layer on a logarithmic axis; what is zero or not finite has no place on it."""
    points = [
        (float(number), math.log10(value))
        for number, value in enumerate(values, 1)
        if value > 0 and math.isfinite(value)
    ]
    if not points:
        return None
    low, high = (pick(y for _, y in points) for pick in (min, max))
    return plots.curves(
        [plots.Curve(what, points, "s0", dots=True)],
        f"{what} of {len(points)} layers in order, from {scientific(10**low)} to "
        f"{scientific(10**high)}.",
        lambda x: f"{x:.0f}" if x == math.floor(x) else "",
        lambda y: scientific(10**y),
        math.floor(low),
    )


def scientific(value: float) -> str:
    """0.000312 -> 3.1e-04: two digits, whatever the size"""
    if value == 0:
        return "0"
    if 10 <= abs(value) < 1000:
        return f"{value:.0f}"
    return f"{value:.2g}" if 0.01 <= abs(value) < 10 else f"{value:.1e}"


def bar(value: float, low: float, high: float) -> str:
    """A bar for log10(value) between the logarithms of low and high, at least a sliver."""
    if not (value > 0 and math.isfinite(value)):
        return ""
    width = math.log10(high) - math.log10(low)
    share = (math.log10(value) - math.log10(low)) / width if width > 0 else 1.0
    eighths = max(1, round(8 * BAR * share))
    return BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()


def _print_signals(found: Sequence[Signal], console: Console) -> None:
    table = _table("layer", "", "mean", "std", "", "zeros", "saturated", "gradient", "")
    for column in (4, 8):
        table.columns[column].justify = "left"
    ends = [_ends([getattr(signal, key) for signal in found]) for key in ("std", "gradient")]
    for signal in found:
        table.add_row(
            signal.path or "(model)",
            signal.kind,
            scientific(signal.mean),
            scientific(signal.std),
            bar(signal.std, *ends[0]),
            f"{100 * signal.zeros:.0f} %" if signal.zeros else "·",
            f"{100 * signal.saturated:.0f} %" if signal.saturated else "·",
            scientific(signal.gradient),
            bar(signal.gradient, *ends[1]),
        )
    show(table, console)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The axis of the bars: whole powers of ten around the values."""
    sound = [value for value in values if value > 0 and math.isfinite(value)] or [1.0]
    low = math.floor(math.log10(min(sound)))
    return 10.0**low, 10.0 ** max(low + 1, math.ceil(math.log10(max(sound))))


def _table(first: str, second: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    table.add_column(second, style="dim", overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
