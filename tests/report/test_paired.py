"""The images that two runs share, and the paired difference on them, from known small runs."""

from pathlib import Path

import numpy as np
import pytest
from small_runs import finished, images

from fewlabels.evaluate.intervals import gain
from fewlabels.report.paired import Asked, Key, asked, difference, together


def judged(right: list[bool], group: list[int] | None = None) -> dict[Key, Asked]:
    """Images 0, 1, …, each of its own content."""
    return {
        (f"{i:04}", 0, 0): Asked(hit, None if group is None else group[i])
        for i, hit in enumerate(right)
    }


def counts(both: int, won: int, lost: int, none: int) -> tuple[dict[Key, Asked], dict[Key, Asked]]:
    a = [True] * both + [True] * won + [False] * lost + [False] * none
    b = [True] * both + [False] * won + [True] * lost + [False] * none
    return judged(a), judged(b)


def test_the_published_example() -> None:
    """R's statpsych gives its example with these counts the interval 0.2548067 to 0.6251933."""
    found = difference(*counts(6, 26, 4, 12))
    assert found["interval"] == [0.2548, 0.6252]
    assert found["difference"] == round(22 / 48, 4)
    assert (found["n"], found["won"], found["lost"]) == (48, 26, 4)


def test_the_bootstrap_is_the_paired_one() -> None:
    """Of many images it is the normal interval of the mean of paired differences."""
    a, b = counts(300, 60, 20, 20)
    found = difference(a, b)
    d = np.repeat([0, 1, -1, 0], [300, 60, 20, 20])
    reach = 1.96 * d.std(ddof=1) / np.sqrt(len(d))
    np.testing.assert_allclose(found["bootstrap"], [0.1 - reach, 0.1 + reach], atol=0.006)
    unpaired = 1.96 * np.sqrt((0.9 * 0.1 + 0.8 * 0.2) / 400)
    assert unpaired > reach + 0.006


def test_the_interval_depends_on_which_images_are_right_and_not_on_how_many() -> None:
    """Both runs have 70 of 100 right: the same ones, or as many others as there can be."""
    alike, apart = (difference(*counts(*of)) for of in ((70, 0, 0, 30), (40, 30, 30, 0)))
    assert alike["difference"] == apart["difference"] == 0
    assert alike["interval"][1] < 0.03
    assert apart["interval"][1] > 0.12
    assert alike["bootstrap"] == [0, 0]  # which is why the other is told first
    assert alike["interval"][1] > 0


def test_exchanged_runs_have_the_opposite_difference() -> None:
    a, b = counts(60, 25, 5, 10)
    one, other = difference(a, b), difference(b, a)
    assert one["difference"] == 0.2 == -other["difference"]
    for name in ("interval", "bootstrap"):
        np.testing.assert_allclose(one[name], [-x for x in reversed(other[name])], atol=1e-4)
    assert (one["won"], one["lost"]) == (other["lost"], other["won"])


def test_the_order_of_images_does_not_matter() -> None:
    a, b = counts(60, 25, 5, 10)
    assert difference(dict(reversed(a.items())), b) == difference(a, b)


def test_only_common_images_count() -> None:
    a, b = counts(20, 10, 0, 0)
    more = {(f"x{i}", 0, 0): Asked(False, None) for i in range(50)}
    assert difference(a | more, b) == difference(a, b)
    assert difference(a, b | more) == difference(a, b)
    nothing = difference(a, more)
    assert nothing["n"] == 0
    assert nothing["difference"] is nothing["interval"] is nothing["bootstrap"] is None


def test_images_of_a_group_count_as_fewer() -> None:
    right_a, right_b = [i >= 6 for i in range(60)], [i >= 24 for i in range(60)]
    group = [i // 6 for i in range(60)]
    single = difference(judged(right_a), judged(right_b))
    for sides in ((group, group), (group, None), (None, group)):
        a, b = judged(right_a, sides[0]), judged(right_b, sides[1])
        found = difference(a, b)
        expected = gain(np.array(right_a), np.array(right_b), np.array(group))
        assert found["interval"] == expected["interval"]
        for name in ("interval", "bootstrap"):  # the bootstrap draws whole groups
            assert np.diff(found[name]) > 1.2 * np.diff(single[name])
        assert found["difference"] == single["difference"]


def test_one_image_or_one_group_tells_next_to_nothing() -> None:
    one = difference(judged([True]), judged([False]))
    group = difference(judged([True] * 30, [7] * 30), judged([False] * 30, [7] * 30))
    for found in (one, group):
        assert found["bootstrap"] == [-1, 1]
        assert found["interval"][0] < 0 < 0.9 < found["interval"][1]


def test_what_hangs_together_through_groups_and_copies() -> None:
    common: list[Key] = [("p", 0, 0), ("p", 0, 1), ("q", 0, 0), ("r", 0, 0), ("s", 0, 0)]
    a = {key: Asked(True, group) for key, group in zip(common, (1, 2, 2, 3, 4), strict=True)}
    b = {key: Asked(True, None) for key in common}
    number = together(common, a, b)
    assert number[0] == number[1] == number[2]  # copies; and the second is of the third's group
    assert len(set(number[2:].tolist())) == 3
    c = {key: Asked(True, group) for key, group in zip(common, (0, 1, 2, 9, 9), strict=True)}
    assert len(set(together(common, a, c).tolist())) == 2  # what the other run's pool ties, too


@pytest.mark.parametrize("renamed", [False, True])
def test_an_image_is_its_content_and_label(tmp_path: Path, renamed: bool) -> None:
    right = images(0, 8, 3)
    a = finished(tmp_path / "a", right)
    names = {name: f"{9 - i}-{name}" if renamed else name for i, name in enumerate(right)}
    content = {names[name]: name for name in right} | {names["001.png"]: "changed"}
    b = finished(
        tmp_path / "b",
        {names[name]: hit for name, hit in right.items()},
        digest=content,
        label={names["002.png"]: 1},
    )
    ours, theirs = asked(a, "test"), asked(b, "test")
    common = ours.keys() & theirs.keys()
    assert {digest for digest, _, _ in common} == set(right) - {"001.png", "002.png"}
    assert all(ours[key] == theirs[key] for key in common)
    assert sum(one.right for one in ours.values()) == 5


def test_images_whose_content_is_not_known_are_not_common(tmp_path: Path) -> None:
    unknown = {"001.png": "", "002.png": ""}
    a, b = (finished(tmp_path / x, images(0, 4, 1), digest=unknown) for x in "ab")
    assert {key[0] for key in asked(a, "test")} == {"000.png", "003.png"}
    assert difference(asked(a, "test"), asked(b, "test"))["n"] == 2
    for path in (a, b):
        (path / "splits.parquet").unlink()
    assert asked(a, "test") == {}


def test_copies_are_paired_one_by_one(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", images(0, 5, 2), digest={"003.png": "x", "004.png": "x"})
    b = finished(tmp_path / "b", images(0, 4, 3), digest={"003.png": "x"})
    ours, theirs = asked(a, "test"), asked(b, "test")
    assert len(ours) == 5
    assert difference(ours, ours)["n"] == 5
    assert difference(ours, theirs)["n"] == 4


def test_the_splits_are_not_mixed(tmp_path: Path) -> None:
    run = finished(tmp_path / "a", images(0, 4, 1), split="val")
    assert asked(run, "test") == {}
    assert len(asked(run, "val")) == 4
