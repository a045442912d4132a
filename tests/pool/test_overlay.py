"""Labels of the store over those of the pool."""

from pathlib import Path

import numpy as np
import pytest

from fewlabels.pool import Pool, split
from fewlabels.pool.overlay import Overlaid, with_labels
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, read_labels


def make(root: Path, names: str) -> Path:
    """Files that hold their own name, up to a `+`: a+2.png is a copy of a.png."""
    for name in names.split():
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.stem.split("+")[0])
    return root


def digests(pool: Pool) -> list[str]:
    return [content_digest(pool.source.read(row)) for row in range(len(pool))]


def digest(name: str) -> str:
    return content_digest(name.encode())


def said(pool: Pool) -> dict[str, str]:
    """{name: label} of a pool, "" = unlabelled."""
    names = [*pool.classes, ""]
    return {
        pool.source.name(row).removesuffix(".png"): names[pool.label[row]]
        for row in range(len(pool))
    }


def test_labels_are_overridden_added_and_taken_back(tmp_path: Path) -> None:
    make(tmp_path, "train/2/a train/2/b train/10/c unlabelled/d unlabelled/e test/2/f test/10/g")
    pool = Pool.scan(tmp_path)
    before = said(pool)
    marks = {"a": "10", "b": "", "c": "10", "d": "3", "f": "3", "g": "", "e": "", "elsewhere": "2"}
    labels = {digest(name): label for name, label in marks.items()}
    labelled, told = with_labels(pool, digests(pool), labels)
    assert said(labelled) == {
        "train/2/a": "10",
        "train/2/b": "",
        "train/10/c": "10",
        "unlabelled/d": "3",
        "unlabelled/e": "",
        "test/2/f": "3",
        "test/10/g": "",
    }
    assert labelled.classes == ("3", "10")  # in the order of numbers; no image is a 2 any more
    np.testing.assert_array_equal(labelled.split, pool.split)
    assert told == Overlaid(new=1, changed=2, removed=2, elsewhere=1)
    assert told.line() == "label store: 1 new, 2 changed, 2 removed; 1 of other images"
    assert said(pool) == before, "a pool is never changed in place"


def test_all_copies_get_the_label_wherever_they_lie(tmp_path: Path) -> None:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        store.add([Mark(digest("a"), "cat", "Ada", "page")])
    make(tmp_path / "photos", "cat/x dog/y moved/renamed/a new/a+2")
    pool = Pool.scan(tmp_path / "photos")
    labelled, told = with_labels(pool, digests(pool), read_labels(tmp_path / "labels.sqlite"))
    assert said(pool)["moved/renamed/a"] == "moved"
    assert said(labelled) == {
        "cat/x": "cat",
        "dog/y": "dog",
        "moved/renamed/a": "cat",
        "new/a+2": "cat",
    }
    assert told == Overlaid(new=0, changed=2, removed=0, elsewhere=0)


def test_splits_do_not_depend_on_the_store(tmp_path: Path) -> None:
    make(tmp_path, " ".join(f"{kind}/{kind}{n}" for kind in ("cat", "dog") for n in range(12)))
    make(tmp_path, "loose")
    pool = Pool.scan(tmp_path)
    known = digests(pool)
    assigned = split.assign(pool, 3, split.tied(pool, known))
    assert (assigned.split == "test").sum() == 4
    labels = {digest("cat0"): "dog", digest("loose"): "owl", digest("dog1"): ""}
    for images in np.flatnonzero(assigned.split == "test"):
        labels[known[images]] = "owl"
    labelled, told = with_labels(assigned, known, labels)
    np.testing.assert_array_equal(labelled.split, assigned.split)
    assert told.removed + told.changed + told.new == len(labels)
    undecided, _ = with_labels(pool, known, {digest("dog1"): ""})
    drawn = split.assign(undecided, 3, split.tied(undecided, known))
    by_name = dict(zip(said(pool), drawn.split.tolist(), strict=True))
    assert by_name["dog/dog1"] == "train"  # as all unlabelled images


def test_a_pool_without_labels_can_be_learnt_from_with_the_stores(tmp_path: Path) -> None:
    make(tmp_path, "a b c")
    pool = Pool.scan(tmp_path, to_train=False)
    assert pool.lacks
    some, _ = with_labels(pool, digests(pool), {digest("a"): "cat"})
    assert "only one class" in some.lacks
    enough, told = with_labels(pool, digests(pool), {digest("a"): "cat", digest("b"): "dog"})
    assert not enough.lacks
    assert enough.split.tolist() == ["train"] * 3
    assert told == Overlaid(new=2, changed=0, removed=0, elsewhere=0)
    none, _ = with_labels(enough, digests(pool), dict.fromkeys(digests(pool), ""))
    assert "no labelled training image among 3; label some" in none.lacks


def test_a_store_that_says_nothing_new_leaves_the_pool(tmp_path: Path) -> None:
    make(tmp_path, "cat/a dog/b")
    pool = Pool.scan(tmp_path)
    for labels in ({}, {digest("a"): "cat"}):
        same, told = with_labels(pool, digests(pool), labels)
        assert same is pool
        assert told == Overlaid(0, 0, 0, 0)
        assert told.line() == ""


def test_several_labels_make_the_pool_one_of_several(tmp_path: Path) -> None:
    make(tmp_path, "cat/a dog/b")
    pool = Pool.scan(tmp_path)
    labelled, told = with_labels(pool, digests(pool), {digest("a"): "cat|dog"})
    assert [labelled.label_text(row) for row in range(2)] == ["cat|dog", "dog"]
    assert (labelled.task, told.changed) == ("multi", 1)
    assert labelled.lacks == ""


def test_what_cannot_be_laid_over_is_told(tmp_path: Path) -> None:
    make(tmp_path, "cat/a dog/b")
    pool = Pool.scan(tmp_path)
    with pytest.raises(ValueError, match="1 digests for 2 images"):
        with_labels(pool, [""], {})
