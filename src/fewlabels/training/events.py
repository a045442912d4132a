"""What a run says while it works: lines or a progress bar, `train.log`, `metrics.jsonl`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fewlabels.training.folder import RunFolder, write_text

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar on


class Events:
    """Hears the loop and the procedures; writes for the person and for the record."""

    def __init__(
        self, folder: RunFolder, console: Console, mark: Callable[[], None] | None = None
    ) -> None:
        """`mark` is called whenever something has been kept that need not be done again."""
        self.folder = folder
        self.console = console
        self._mark = mark
        self._stage = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._validation = ""
        self._spoken = 0.0

    def say(self, text: str) -> None:
        """A line for the person, kept in train.log."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._log(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens inside is shown and recorded under this name."""
        self._stage, self._validation, self._spoken = name, "", time.monotonic()
        self._log(f"{name}: begins")
        if not self.console.is_terminal:
            yield
            self.saved()
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._task = self._bar.add_task(name, total=1.0, numbers="")
            try:
                yield
                self.saved()
            finally:
                self._bar = None

    def inside(self, folder: RunFolder) -> "Events":
        """For a run inside this one."""
        return Events(folder, self.console, self._mark)

    def saved(self) -> None:
        """What has been done so far will not be done again."""
        if self._mark is not None:
            self._mark()

    def count(self, done: int, total: int) -> None:
        """Progress of work that is counted in images: reading, decoding."""
        self._show(done / max(1, total), f"{done:,} of {total:,} images")

    def resumed(self, step: int) -> None:
        """Takes back the lines of this stage that lie after `step`: those steps are done anew."""
        self.say(f"{self._stage}: goes on at step {step}")
        file = self.folder.path / "metrics.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        write_text(file, "".join(line for line in lines if self._stands(line, step)))

    def _stands(self, line: str, step: int) -> bool:
        try:
            row = json.loads(line)
        except ValueError:  # cut off by a kill
            return False
        return bool(row["stage"] != self._stage or row["step"] <= step)

    def step(self, progress: float, step: int, rate: float, loss: float) -> None:
        """Progress of training; `rate` in images a second."""
        self._show(
            progress, f"step {step}  {rate:,.0f} images/s  loss {loss:.3f}{self._validation}"
        )

    def metrics(self, row: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        if "val_accuracy" in row:
            self._validation = f"  validation {100 * row['val_accuracy']:.1f} %"
        line = json.dumps({"stage": self._stage, **row})
        with (self.folder.path / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")

    def _show(self, progress: float, numbers: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress, numbers=numbers)
        elif time.monotonic() - self._spoken > PLAIN_SECONDS:
            self._spoken = time.monotonic()
            self.console.print(
                f"{self._stage}: {100 * progress:.0f} %  {numbers}", highlight=False, markup=False
            )

    def _log(self, text: str) -> None:
        with (self.folder.path / "train.log").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
