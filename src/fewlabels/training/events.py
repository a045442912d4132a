"""What a run says while it works: lines or a progress bar, `train.log`, `metrics.jsonl`,
`progress.json`."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fewlabels.errors import one_line
from fewlabels.training.budget import Clock
from fewlabels.training.folder import RunFolder, write_text
from fewlabels.training.tensorboard import TENSORBOARD, opened, write_row

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal to draw a bar on
PROGRESS = "progress.json"  # where the run is, for who looks at it from outside
PROGRESS_SECONDS = 1.0  # between two of them
PAGE_SECONDS = 10.0  # between two pages of a run that goes on, at least,
PAGE_SHARE = 0.01  # and no more than this part of the time for them


@dataclass
class Page:
    """A page about the run, drawn anew now and then while it goes on."""

    draw: Callable[[], object]
    _clock: Callable[[], float] = field(default_factory=Clock)
    _drawn: float = 0.0  # when, on the clock
    _cost: float = 0.0  # in seconds

    def refresh(self) -> str | None:
        """Draws it where that is due; returns why it could not be."""
        due = self._clock() - self._drawn >= max(PAGE_SECONDS, self._cost / PAGE_SHARE)
        return self.draw_now() if due else None

    def draw_now(self) -> str | None:
        """Returns why it could not be drawn and raises no error: nobody loses a run over its
        page."""
        start = self._clock()
        try:
            self.draw()
        except Exception as error:
            return one_line(error)
        finally:
            first, self._drawn = not self._drawn, self._clock()
            self._cost = 0.0 if first else self._drawn - start  # the first one pays for set-up
        return None


class Events:
    """Hears the loop and the procedures; writes for the person and for the record."""

    def __init__(
        self,
        folder: RunFolder,
        console: Console,
        mark: Callable[[], None] | None = None,
        *,
        clock: Callable[[], float] | None = None,
        page: Page | None = None,
        log: str | None = None,
        whole: RunFolder | None = None,
    ) -> None:
        """`mark` is called whenever something has been kept that need not be done again, `clock`
        tells the seconds used so far; `log`: tensorboard, or metrics.jsonl only; `whole`: the run
        that this one lies in."""
        self.folder = folder
        self.whole = whole or folder
        self.console = console
        self._mark = mark
        self._clock = clock
        self._page = page
        self._log_to = log
        self._board: SummaryWriter | None = None
        self._after = -1  # the step after which the stage goes on
        self._told = 0.0
        self._stage = ""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._progress, self._numbers = 0.0, ""  # of the last step of the stage
        self._validation = ""
        self._spoken = time.monotonic()

    def say(self, text: str) -> None:
        """A line for the person, kept in train.log."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)
        self._log(text)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What happens inside is shown and recorded under this name."""
        self._stage, self._numbers, self._validation = name, "", ""
        self._after, self._told = -1, 0.0
        self._log(f"{name}: begins")
        self._tell(progress=0.0)
        try:
            with self._shown(name):
                yield
            if self._numbers:
                self._log(f"{name}: ends at {self._numbers}{self._validation}")
            self._told = 0.0
            self._tell(progress=1.0)
            self.saved()
        finally:
            self._close_board()

    @contextmanager
    def _shown(self, name: str) -> Iterator[None]:
        """A bar on a terminal; elsewhere lines, the last one at the end."""
        if not self.console.is_terminal:
            yield
            if self._numbers:
                self._print(self._progress, self._numbers)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._task = self._bar.add_task(self._place + name, total=1.0, numbers="")
            try:
                yield
            finally:
                self._bar = None

    def inside(self, folder: RunFolder, console: Console | None = None) -> "Events":
        """For a run inside this one."""
        return Events(
            folder,
            console or self.console,
            self._mark,
            clock=self._clock,
            page=self._page,
            log=self._log_to,
            whole=self.whole,
        )

    def saved(self) -> None:
        """What has been done so far will not be done again."""
        if self._mark is not None:
            self._mark()

    def count(self, done: int, total: int) -> None:
        """Progress of work that is counted in images: reading, decoding."""
        self._tell(progress=done / max(1, total))
        self._show(done / max(1, total), f"{done:,} of {total:,} images")

    def resumed(self, step: int) -> None:
        """Takes back the lines of this stage that lie after `step`: those steps are done anew."""
        self.say(f"{self._place}{self._stage}: goes on at step {step}")
        self._cut(step)

    def went_back(self, step: int, why: str) -> None:
        """The loss has exploded; the steps after `step` are done anew."""
        self.say(f"{self._place}{self._stage}: {why}")
        self._cut(step)

    def _cut(self, step: int) -> None:
        self._close_board()
        self._after = step
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
        self._tell(progress=progress, step=step, images_per_second=rate, loss=loss)
        self._progress = progress
        self._numbers = f"step {step}  {rate:,.0f} images/s  loss {loss:.3f}"
        self._show(progress, self._numbers)

    def metrics(self, row: dict[str, Any]) -> None:
        """A line of metrics.jsonl."""
        if "val_accuracy" in row:
            self._validation = f"  validation {100 * row['val_accuracy']:.1f} %"
        line = json.dumps({"stage": self._stage, **row})
        with (self.folder.path / "metrics.jsonl").open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())  # before a checkpoint that has passed it
        if self._log_to == TENSORBOARD:
            self._to_board(row)

    def _to_board(self, row: dict[str, Any]) -> None:
        try:
            if self._board is None:
                self._board = opened(self.folder.path / TENSORBOARD, self._stage, self._after)
            write_row(self._board, row)
        except OSError as error:  # metrics.jsonl has it all the same
            self._log(f"TensorBoard was not written: {one_line(error)}")

    def _close_board(self) -> None:
        if self._board is not None:
            with suppress(OSError):
                self._board.close()
            self._board = None

    def _tell(self, **numbers: float) -> None:
        """Where the run is, for `fewlabels status` and the page."""
        if time.monotonic() - self._told < PROGRESS_SECONDS:
            return
        self._told = time.monotonic()
        place = self.folder.path.relative_to(self.whole.path)
        used = {} if self._clock is None else {"seconds": round(self._clock(), 2)}
        told = {"stage": self._stage, "folder": str(place), **numbers, **used, "at": time.time()}
        fresh = self.whole.path / f".{PROGRESS}"
        with suppress(OSError):  # a full disk is met, and said, where something must be kept
            fresh.write_text(json.dumps(told))  # nobody waits for the disk: it is soon written anew
            os.replace(fresh, self.whole.path / PROGRESS)
        if self._page is not None and (why := self._page.refresh()):
            self._log(f"the page of the run was not written: {why}")

    @property
    def _place(self) -> str:
        """Of a run inside another one, as it is said before its stages."""
        place = self.folder.path.relative_to(self.whole.path).as_posix()
        return "" if place == "." else f"{place}, "

    def _show(self, progress: float, numbers: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=progress, numbers=numbers + self._validation)
        elif time.monotonic() - self._spoken > PLAIN_SECONDS:
            self._print(progress, numbers)

    def _print(self, progress: float, numbers: str) -> None:
        """On no terminal."""
        self._spoken = time.monotonic()
        used = "" if self._clock is None else f"  after {self._clock():.0f} s"
        where = f"{self._place}{self._stage}: {100 * progress:.0f} %{used}"
        text = f"{where}  {numbers}{self._validation}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _log(self, text: str) -> None:
        # a full disk is met, and said, where something must be kept
        with suppress(OSError), (self.folder.path / "train.log").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
