"""What each image of a run is used for: written whole or not at all, read where the run goes on."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Paint

import fewlabels as fl
from fewlabels import api
from fewlabels.errors import UserError
from fewlabels.pool import Pool
from fewlabels.pool.pool import assemble
from fewlabels.pool.source import Encoded
from fewlabels.procedures import prepare
from fewlabels.procedures.uses import HELD_OUT, LABELLED, UNLABELLED, Uses, read_uses
from fewlabels.training.folder import RunFolder

WRITES = """
import sys
from pathlib import Path
from itertools import count
import numpy as np
from fewlabels.procedures import prepare
from fewlabels.procedures.uses import Uses
from fewlabels.training.folder import RunFolder
n = 20_000
names = tuple(f"images/{i}.jpg" for i in range(n))
used = np.full(n, "unlabelled", dtype="U10")
split = np.full(n, "train", dtype="U5")
uses = Uses(("a", "b"), names, names, split, np.full(n, -1), used, np.arange(n))
for number in count():
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    print(number, flush=True)
    uses.write(RunFolder(folder))
"""


def few(pool: Pool) -> Uses:
    count = len(pool)
    used = np.array([LABELLED, HELD_OUT, UNLABELLED], dtype="U10")
    names = tuple(pool.source.name(row) for row in range(count))
    return Uses(
        *(pool.classes, names, ("0", "1", "2"), np.full(count, "train", dtype="U5")),
        *(pool.label, used, np.arange(count)),
    )


def pool_of(names: str, labels: list[str]) -> Pool:
    source = Encoded(tuple(names), (b"",) * len(names))
    return assemble("here", source, labels, ["train"] * len(names))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    uses = few(pool_of("abc", ["x", "y", ""]))
    uses.write(RunFolder(tmp_path))
    read = read_uses(RunFolder(tmp_path))
    for field in fields(Uses):
        assert np.array_equal(getattr(read, field.name), getattr(uses, field.name)), field.name
    assert uses.rows(LABELLED, HELD_OUT).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "task", "since"),
    [(["x|y", "|", ""], None, "x"), (["1.5|2", "-3|0.1", ""], "regression", "1.5|3")],
)
def test_labels_of_other_tasks_are_kept_too(
    tmp_path: Path, labels: list[str], task: str | None, since: str
) -> None:
    def pool_with(labels: list[str]) -> Pool:
        source = Encoded(("a", "b", "c"), (b"",) * 3)
        return assemble("here", source, labels, ["train"] * 3, task=task)

    pool = pool_with(labels)
    replace(few(pool), task=pool.task, target=pool.target).write(RunFolder(tmp_path))
    uses = read_uses(RunFolder(tmp_path))
    assert uses is not None
    now = uses.over(pool_with([since, *labels[1:2], since]), every_label=True)
    assert now.task == pool.task
    assert [now.label_text(row) for row in range(3)] == labels
    (note,) = now.notes
    assert "1 labelled otherwise (a), 1 newly labelled (c)" in note
    plain = uses.over(pool_of("abc", ["x", "y", ""]), every_label=True)  # read as single now
    assert plain.task == pool.task
    assert [plain.label_text(row) for row in range(3)] == labels


def test_images_in_another_order_have_the_runs_numbers() -> None:
    uses = few(pool_of("abc", ["x", "y", ""]))
    now = uses.over(pool_of("cab", ["", "x", "y"]), every_label=True)
    assert [now.source.name(row) for row in range(3)] == ["a", "b", "c"]
    assert now.label.tolist() == [0, 1, -1]
    assert now.notes == ()


def test_images_that_came_or_went_are_named() -> None:
    uses = few(pool_of("abc", ["x", "y", ""]))
    with pytest.raises(UserError, match=r"1 added \(d\), 1 removed \(a\); put that back"):
        uses.over(pool_of("bcd", ["y", "", "x"]), every_label=True)
    with pytest.raises(UserError, match=r"1 changed \(b\)"):
        uses.need_same_images(pool_of("abc", ["x", "y", ""]), ("0", "9", "2"))
    with pytest.raises(UserError, match=r"1 there more than once \(b\)"):
        uses.over(pool_of("abcb", ["x", "y", "", ""]), every_label=True)


def test_a_student_keeps_the_split_of_its_teacher(
    tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at another image size, at which other pictures may look nearly the same."""
    for kind, name in enumerate(("above", "below")):
        paint(tmp_path / "photos" / name, kind, 12)
    small: dict[str, Any] = {"steps": 2, "batch_size": 4, "weights": "none"}
    data = tmp_path / "photos"
    teacher = fl.train(data, out=tmp_path / "teacher", method="supervised", img_size=16, **small)
    used = (teacher.path / "splits.parquet").read_bytes()
    monkeypatch.setattr(prepare, "near_duplicates", None)  # it is not asked
    student = api.distill(teacher, model="lenet5", out=tmp_path / "student", img_size=32, **small)
    assert (student.path / "splits.parquet").read_bytes() == used
    monkeypatch.undo()
    with pytest.raises(UserError, match="it was split otherwise"):
        api.distill(teacher, model="lenet5", out=tmp_path / "other", img_size=32, seed=5, **small)
    paint(data / "above", 0, 14)  # other images: it is drawn anew
    with pytest.raises(UserError, match="before images came or went"):
        api.distill(teacher, model="lenet5", out=tmp_path / "other", **small)


def test_a_kill_leaves_all_or_nothing(tmp_path: Path) -> None:
    draw, whole = random.Random(0), 0
    for attempt in range(4):
        home = tmp_path / str(attempt)
        home.mkdir()
        child = subprocess.Popen(
            [sys.executable, "-c", WRITES, str(home)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(3):
            child.stdout.readline()
        time.sleep(draw.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        child.wait()
        for folder in home.iterdir():
            uses = read_uses(RunFolder(folder))
            whole += uses is not None
            assert uses is None or len(uses.name) == len(uses.tied) == 20_000
    assert whole >= 8
