import numpy as np

from fewlabels.pool import Pool
from fewlabels.pool.copies import copies_of, same
from fewlabels.pool.source import Encoded


def pool() -> Pool:
    return Pool(
        origin="here",
        source=Encoded(tuple("abcdefg"), (b"",) * 7),
        classes=("cat", "dog"),
        label=np.array([0, 0, 0, 1, -1, 1, 1]),
        split=np.array(["train", "test", "train", "train", "train", "", ""]),
    )


def test_copies_leaks_and_contradictions() -> None:
    found = copies_of(pool(), ["1", "1", "2", "2", "2", "", ""])
    assert found.duplicates == (("a", "b"), ("c", "d", "e"))  # what is unknown is no copy
    assert [[(c.name, c.split) for c in group] for group in found.leaks] == [
        [("a", "train"), ("b", "test")]
    ]
    assert [[(c.name, c.label) for c in group] for group in found.contradictions] == [
        [("c", "cat"), ("d", "dog"), ("e", "")]
    ]


def test_what_is_not_split_yet_cannot_leak() -> None:
    assert not copies_of(pool(), ["1", "", "", "", "", "2", "2"]).leaks
    assert not copies_of(pool(), ["1", "", "", "", "", "1", ""]).leaks


def test_same() -> None:
    assert same(["x", "", "y", "x", "", "y", "z"]) == [[0, 3], [2, 5]]
    assert same([]) == []
