from pathlib import Path

import numpy as np
import pytest

from fewlabels.errors import UserError
from fewlabels.pool import Pool
from fewlabels.pool.labels import says_no_class
from fewlabels.pool.pool import assemble
from fewlabels.pool.source import Encoded
from fewlabels.pool.split import assign

SEVERAL = """image,label,split
a.png,cat|dog,train
b.png,,train
c.png,|,train
d.png, dog | dog |,train
e.png,10,test
f.png,cat|9,
"""
NUMBERS = """image,label,split
a.png,3,train
b.png,,train
c.png,-1.5,train
d.png,3.0,val
e.png,1e3,test
f.png,+.25,
"""


def table(folder: Path, text: str) -> Path:
    for name in "abcdef":
        (folder / f"{name}.png").write_bytes(name.encode())
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def texts(pool: Pool) -> list[str]:
    return [pool.label_text(row) for row in range(len(pool))]


def test_several_labels(tmp_path: Path) -> None:
    pool = Pool.scan(table(tmp_path, SEVERAL), to_train=False)
    assert (pool.task, pool.classes) == ("multi", ("10", "9", "cat", "dog"))
    assert pool.target is not None
    assert pool.target.astype(int).tolist() == [
        [0, 0, 1, 1],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 0, 0],
        [0, 1, 1, 0],
    ]
    assert pool.label.tolist() == [0, -1, 0, 0, 0, 0]  # c has no class, and that is known
    assert texts(pool) == ["cat|dog", "", "|", "dog", "10", "9|cat"]
    counts = {"10": 0, "9": 0, "cat": 1, "dog": 2, "no class": 1, "unlabelled": 1}
    assert pool.counts()["train"] == counts


def test_numbers(tmp_path: Path) -> None:
    pool = Pool.scan(table(tmp_path, NUMBERS), to_train=False, task="regression")
    assert (pool.task, pool.classes) == ("regression", ())
    assert pool.target is not None
    np.testing.assert_array_equal(pool.target[:, 0], [3, np.nan, -1.5, 3, 1000, 0.25])
    assert pool.label.tolist() == [0, -1, 0, 0, 0, 0]
    assert texts(pool) == ["3", "", "-1.5", "3", "1000", "0.25"]
    assert pool.counts()["train"] == {"labelled": 2, "unlabelled": 1}


def test_numbers_are_classes_unless_asked_otherwise(tmp_path: Path) -> None:
    pool = Pool.scan(table(tmp_path, NUMBERS), to_train=False)
    assert pool.task == "single"
    assert "3" in pool.classes
    assert "3.0" in pool.classes


@pytest.mark.parametrize("task", ["single", "multi"])
def test_a_task_that_is_asked_for(tmp_path: Path, task: str) -> None:
    pool = Pool.scan(table(tmp_path, SEVERAL), to_train=False, task=task)
    assert pool.task == task
    assert ("cat|dog" in pool.classes) == (task == "single")
    plain = "image,label\na.png,x\nb.png,y\n"
    assert Pool.scan(table(tmp_path, plain), to_train=False, task=task).classes == ("x", "y")


@pytest.mark.parametrize(("text", "task"), [(SEVERAL, "multi"), (NUMBERS, "regression")])
def test_they_can_be_trained_from(tmp_path: Path, text: str, task: str) -> None:
    pool = Pool.scan(table(tmp_path, text), task=task)
    assert pool.lacks == ""
    assert pool.width == (4 if task == "multi" else 1)
    with pytest.raises(UserError, match="no labelled training image"):
        Pool.scan(table(tmp_path, "image,label,split\na.png,,train\nb.png,1,test\n"), task=task)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("old", "line 2 has the label 'old', which is no number"),
        ("nan", "line 2 has the label 'nan', which is no number"),
        ("inf", "line 2 has the label 'inf', which is no number"),
        ('"1,5"', "line 2 has the label '1,5', which is no number; write it with a decimal point"),
        ("1|x", "line 2 has the label '1|x', which is no number"),
    ],
)
def test_what_is_no_number(tmp_path: Path, label: str, said: str) -> None:
    path = table(tmp_path, f"image,label\na.png,{label}\nb.png,\n")
    with pytest.raises(UserError) as error:
        Pool.scan(path, task="regression")
    assert str(error.value).startswith(f"{path}: {said}")


def test_several_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label\na.png,1|2\nb.png,\nc.png,3|4.5\n")
    pool = Pool.scan(path, to_train=False, task="regression")
    assert pool.target is not None
    np.testing.assert_array_equal(pool.target, [[1, 2], [np.nan, np.nan], [3, 4.5]])
    path = table(tmp_path, "image,label\nx.png,1|2\na.png,1|2\nb.png,\nc.png,3\n")
    with pytest.raises(UserError, match="line 5 has 1 numbers as its label, others have 2"):
        Pool.scan(path, task="regression")


def test_tasks_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task 'many'; it is single, multi, regression"):
        Pool.scan(tmp_path, task="many")
    with pytest.raises(UserError, match="digits: its labels are ten classes"):
        Pool.scan("digits", task="regression")


def test_folders_named_by_numbers_or_bars(tmp_path: Path) -> None:
    for name in ("3", "4.5"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    pool = Pool.scan(tmp_path, to_train=False, task="regression")
    assert texts(pool) == ["3", "4.5"]
    assert Pool.scan(tmp_path).classes == ("3", "4.5")
    (tmp_path / "a|b").mkdir()
    (tmp_path / "a|b" / "a.png").touch()
    assert Pool.scan(tmp_path).classes == ("3", "4.5", "a|b")  # a folder is one class


def several(labels: list[set[str]]) -> Pool:
    """A pool of several labels an image; an empty set is unlabelled."""
    names = tuple(f"{row}.png" for row in range(len(labels)))

    source = Encoded(names, (b"",) * len(names))
    return assemble(
        "here", source, ["|".join(sorted(s)) for s in labels], [""] * len(labels), task="multi"
    )


def test_targets_go_with_their_images() -> None:
    pool = assign(several([{"a"}, {"a", "b"}, set(), {"c"}, set()]), 0)
    assert pool.target is not None
    part = pool.take(np.array([3, 1, 2]))
    assert texts(part) == ["c", "a|b", ""]
    assert texts(part.take(np.array([1]))) == ["a|b"]
    joined = pool.with_unlabelled(Encoded(("x", "y", "z"), (b"",) * 3))
    assert texts(joined) == ["a", "a|b", "c", "", "", ""]
    assert joined.target is not None
    assert joined.target.dtype == pool.target.dtype
    fewer = pool.without_labels(np.array([False, True, False, False, False]))
    assert texts(fewer) == ["a", "", "", "c", ""]
    assert texts(pool)[1] == "a|b"  # the pool itself is not changed


def test_numbers_go_with_their_images(tmp_path: Path) -> None:
    pool = Pool.scan(table(tmp_path, NUMBERS), to_train=False, task="regression")
    assert texts(pool.take(np.array([4, 1]))) == ["1000", ""]
    assert texts(pool.with_unlabelled(Encoded(("x",), (b"",))))[-2:] == ["0.25", ""]
    without = pool.without_labels(np.arange(6) < 5)
    assert without.target is not None
    assert np.isnan(without.target[:5]).all()
    assert texts(without)[5] == "0.25"


@pytest.mark.parametrize("name", ["Not sure", "not_sure", "?", "???", "unknown", "N/A", "NA", "-"])
def test_names_of_no_class(name: str) -> None:
    assert says_no_class(name)


@pytest.mark.parametrize("name", ["0", "cat", "nano", "other", "+", "猫", "not cat", "Unknownia"])
def test_names_of_classes(name: str) -> None:
    assert not says_no_class(name)
