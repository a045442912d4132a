"""How far work is that belongs to no run yet: reading, comparing, asking a model."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

BETWEEN_LINES = 10.0  # seconds, of progress that is written to a file


@contextmanager
def progress_on(console: Console, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yields what hears (what, done, total): a bar from the first call on, or on no terminal a line
    now and then."""
    from rich.progress import Progress

    quiet = quiet or console.quiet
    bar = Progress(console=console, transient=True, disable=quiet or not console.is_terminal)
    task, last = bar.add_task("", total=None), time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal last
        bar.start()
        bar.update(task, description=what, completed=done, total=total)
        if not (quiet or console.is_terminal) and time.monotonic() - last >= BETWEEN_LINES:
            console.print(f"{what}: {done:,} of {total:,}", highlight=False, markup=False)
            last = time.monotonic()

    try:
        yield show
    finally:
        bar.stop()
