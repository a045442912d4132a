from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fewlabels.errors import UserError
from fewlabels.pool import Pool
from fewlabels.pool.source import Encoded
from fewlabels.pool.split import assign, holdout, keep_labels, strata_of, tied, unmeasured


def make(label: list[int], split: str | list[str] = "", group: list[int] | None = None) -> Pool:
    n = len(label)
    sides = [split] * n if isinstance(split, str) else split
    return Pool(
        origin="here",
        source=Encoded(tuple(f"{row}.png" for row in range(n)), (b"",) * n),
        classes=tuple(f"c{k}" for k in range(max(label) + 1)),
        label=np.array(label),
        split=np.array(sides, dtype="U5"),
        group=None if group is None else np.array(group),
    )


def of_class(pool: Pool, split: str) -> list[int]:
    return np.bincount(pool.label[pool.split == split], minlength=len(pool.classes)).tolist()


def test_a_fifth_of_each_class_tests() -> None:
    pool = assign(make([0] * 10 + [1] * 50 + [2] * 33), seed=0)
    assert of_class(pool, "test") == [2, 10, 7]
    assert of_class(pool, "train") == [8, 40, 26]


def test_with_fewer_than_ten_of_a_class_all_train() -> None:
    assert set(assign(make([0] * 9 + [1] * 50), seed=0).split) == {"train"}


def test_given_sides_stay() -> None:
    pool = make([0, 1, 0] + [0, 1] * 20, ["test", "test", "val"] + [""] * 40)
    result = assign(pool, seed=0).split.tolist()
    assert result == ["test", "test", "val"] + ["train"] * 40
    assert pool.split.tolist()[3:] == [""] * 40  # the pool itself is not changed


def test_same_seed_same_split_whatever_the_global_state() -> None:
    pool = make([0, 1] * 50)
    np.random.seed(1)  # noqa: NPY002  the global state that must not matter
    first = assign(pool, seed=7)
    held = holdout(first.label, first.split, seed=7)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert assign(pool, seed=7).split.tolist() == first.split.tolist()
    assert holdout(first.label, first.split, seed=7).tolist() == held.tolist()
    after = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    assert before == after
    assert assign(pool, seed=8).split.tolist() != first.split.tolist()
    assert holdout(first.label, first.split, seed=8).tolist() != held.tolist()


def test_groups_and_copies_stay_on_one_side() -> None:
    rng = np.random.default_rng(0)
    label = [0, 1] * 100
    group = rng.integers(0, 60, 200).tolist()
    digests = [str(d) for d in rng.integers(0, 1500, 200)]
    digests[:40] = [""] * 40  # unreadable images are no copies of each other
    pool = make(label, group=group)
    for seed in range(5):
        result = assign(pool, seed, tied(pool, digests))
        assert 25 <= int((result.split == "test").sum()) <= 55
        for keys in (np.array(group), np.array(digests)):
            for key in set(keys.tolist()) - {""}:
                assert len(set(result.split[keys == key])) == 1


def test_ties_chain_through_groups_and_copies() -> None:
    pool = make([0, 1, 0, 1, 0, 0], group=[0, 0, 1, 1, 2, 3])
    keys = tied(pool, ["a", "b", "b", "c", "", ""]).tolist()
    assert len(set(keys[:4])) == 1
    assert len(set(keys)) == 3  # images that cannot be read are not copies of each other


def test_a_copy_of_an_image_whose_side_is_given_follows_it() -> None:
    label, split = [0, 1, -1] + [0, 1] * 20, ["test", "val", "train"] + [""] * 40
    digests = [str(row) for row in range(43)]
    digests[3], digests[4], digests[5] = "0", "1", "2"
    pool = make(label, split)
    result = assign(pool, 0, tied(pool, digests))
    assert result.split[3:6].tolist() == ["test", "val", "train"]


def test_copies_of_given_images_are_not_drawn_for_the_test() -> None:
    """An unlabelled copy trains, so its labelled copies may not test."""
    label, split = [-1, 0, 1] + [0, 1] * 50, ["train", "val", "val"] + [""] * 100
    digests = ["0", "1", "2"] + ["0"] * 20 + ["1"] * 20 + [str(row) for row in range(3, 63)]
    for seed in range(5):
        pool = make(label, split)
        result = assign(pool, seed, tied(pool, digests)).split
        assert set(result[3:23]) == {"train"}
        assert set(result[23:43]) == {"val"}
        assert set(result[43:]) == {"train", "test"}


def test_a_class_of_few_groups_still_tests_and_still_trains() -> None:
    label = [0] * 20 + [1] * 20
    result = assign(make(label, group=[0] * 10 + [1] * 10 + list(range(2, 22))), seed=0)
    assert of_class(result, "test") == [10, 4]
    result = assign(make(label, group=[0] * 20 + list(range(1, 21))), seed=0)
    assert of_class(result, "test") == [0, 4]  # its one group trains


def test_holdout_counts() -> None:
    label = np.array([0] * 1 + [1] * 2 + [2] * 5 + [3] * 50 + [-1] * 9 + [3] * 7)
    split = np.array(["train"] * 67 + ["val"] * 7)
    mask = holdout(label, split, seed=0)
    assert np.bincount(label[mask]).tolist() == [0, 1, 1, 10]
    assert not mask[58:].any()


def test_holdout_at_most() -> None:
    label = np.repeat(np.arange(4), [10, 20, 300, 700])
    mask = holdout(label, np.full(1030, "train"), seed=0, most=20)
    counts = np.bincount(label[mask], minlength=4)
    assert counts.sum() == 20
    assert counts.tolist() == [1, 1, 5, 13]
    mask = holdout(np.repeat(np.arange(30), 5), np.full(150, "train"), seed=0, most=7)
    assert mask.sum() == 7


def test_holdout_keeps_groups_together_and_a_label_of_each_class() -> None:
    label = np.array([0] * 10 + [1] * 10 + [2, 2])
    keys = np.array([0] * 5 + [1] * 5 + list(range(2, 12)) + [12, 12])
    mask = holdout(label, np.full(22, "train"), seed=3, group_keys=keys)
    for key in range(13):
        assert len(set(mask[keys == key].tolist())) == 1
    assert np.bincount(label[mask], minlength=3).tolist() == [5, 2, 0]


def test_holdout_of_nothing() -> None:
    assert not holdout(np.array([-1, -1]), np.array(["train", "train"]), seed=0).any()


def test_kept_labels_are_nested() -> None:
    pool = make([0, 1, 2] * 20 + [0, 1, 2], ["train"] * 60 + ["test"] * 3)
    kept = {n: keep_labels(pool, n, seed=4) for n in (1, 2, 5, 20)}
    for n, part in kept.items():
        assert of_class(part.take(np.flatnonzero(part.label >= 0)), "train") == [n] * 3
        assert part.label[60:].tolist() == [0, 1, 2]
    rows = [set(np.flatnonzero(part.label >= 0).tolist()) for part in kept.values()]
    assert rows[0] < rows[1] < rows[2] < rows[3]
    other = keep_labels(pool, 5, seed=5)
    assert other.label.tolist() != kept[5].label.tolist()
    assert keep_labels(pool, 5, seed=4).label.tolist() == kept[5].label.tolist()


def test_kept_labels_user_errors() -> None:
    pool = make([0, 0, 1], "train")
    with pytest.raises(UserError, match="class 'c1' has 1 training labels, not 2") as error:
        keep_labels(pool, 2, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="keep at least 1"):
        keep_labels(pool, 0, seed=0)
    with pytest.raises(ValueError, match="assign the splits"):
        keep_labels(make([0, 1]), 1, seed=0)


def test_flat_tree_end_to_end(tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.png").write_bytes(b"")
    assert of_class(assign(Pool.scan(tmp_path), seed=0), "test") == [2, 2]


def plain_draw(
    label: list[int], keys: list[int], quota: list[int], rng: np.random.Generator
) -> set[int]:
    """What `_draw` does to rows of one class each, image by image."""
    units: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        units.setdefault(key, []).append(row)
    members = list(units.values())
    missing, left = Counter(dict(enumerate(quota))), Counter(label)
    taken: set[int] = set()

    def sizes(unit: int) -> Counter[int]:
        return Counter(label[row] for row in members[unit])

    def may_go(unit: int) -> bool:
        return all(left[c] > n for c, n in sizes(unit).items())

    def take(unit: int) -> None:
        taken.update(members[unit])
        missing.subtract(sizes(unit))
        left.subtract(sizes(unit))

    order = rng.permutation(len(members)).tolist()
    for unit in order:
        change = sum(abs(missing[c] - n) - abs(missing[c]) for c, n in sizes(unit).items())
        if change < 0 and may_go(unit):
            take(unit)
    for c, wanted in enumerate(quota):
        if wanted and missing[c] == wanted:
            fitting = [unit for unit in order if sizes(unit)[c] and may_go(unit)]
            if fitting:
                take(min(fitting, key=lambda unit: len(members[unit])))
    return taken


def plain_ties(*columns: list[int]) -> list[int]:
    """The first row that each one hangs together with, through equal values; -1 ties nothing."""
    key = list(range(len(columns[0])))
    changed = True
    while changed:
        before = list(key)
        for column in columns:
            least: dict[int, int] = {}
            for row, value in enumerate(column):
                least[value] = min(least.get(value, key[row]), key[row])
            key = [k if v < 0 else least[v] for k, v in zip(key, column, strict=True)]
        changed = key != before
    return key


@pytest.mark.parametrize("seed", range(40))
def test_as_the_plain_algorithm(seed: int) -> None:
    """The same draws for the same seed, whatever is done with arrays."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(30, 200)), int(rng.integers(1, 5))
    label = [*range(k), *rng.integers(0, k, n - k).tolist()]
    group = rng.integers(0, max(1, n // int(rng.integers(2, 20))), n).tolist()
    content = rng.integers(-1, 2 * n, n).tolist()
    pool = make(label, group=group)
    keys = tied(pool, [str(c) if c >= 0 else "" for c in content])
    assert keys.tolist() == plain_ties(group, content)
    counts = np.bincount(label)
    quota = np.minimum(np.maximum(1, np.rint(0.2 * counts)), counts - 1).astype(int).tolist()
    for by in (keys, np.arange(n)):
        held = holdout(pool.label, np.full(n, "train"), seed, by)
        expected = plain_draw(label, by.tolist(), quota, np.random.default_rng([2, seed]))
        assert set(np.flatnonzero(held).tolist()) == expected


def several(target: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> Pool:
    pool = make(np.where(labelled, 0, -1).tolist())
    classes = tuple(f"c{k}" for k in range(target.shape[1]))
    return replace(pool, classes=classes, task="multi", target=target & labelled[:, None])


def test_several_labels_are_split_in_proportion() -> None:
    rng = np.random.default_rng(0)
    frequency = np.array([0.5, 0.3, 0.1, 0.03])
    target = rng.random((2000, 4)) < frequency
    target[:, 3] &= target[:, 0]  # the rarest never stands alone
    pool = several(target, rng.random(2000) < 0.9)
    assert pool.target is not None
    result = assign(pool, 0)
    test = result.split == "test"
    assert not test[pool.label < 0].any()
    share = pool.target[test].sum(0) / pool.target.sum(0)
    np.testing.assert_allclose(share, 0.2, atol=0.03)
    nothing = (pool.label >= 0) & ~pool.target.any(1)
    assert test[nothing].sum() / nothing.sum() == pytest.approx(0.2, abs=0.01)
    assert assign(pool, 0).split.tolist() == result.split.tolist()
    assert assign(pool, 1).split.tolist() != result.split.tolist()


def test_several_labels_with_groups() -> None:
    rng = np.random.default_rng(0)
    pool = several(rng.random((600, 3)) < 0.3, np.ones(600, dtype=bool))
    pool = replace(pool, group=rng.integers(0, 150, 600))
    assert pool.target is not None
    result = assign(pool, 0)
    test = result.split == "test"
    np.testing.assert_allclose(pool.target[test].sum(0) / pool.target.sum(0), 0.2, atol=0.05)
    for group in range(150):
        assert len(set(test[pool.group == group].tolist())) <= 1


def test_holdout_of_several_labels() -> None:
    target = np.zeros((40, 3), dtype=bool)
    target[:20, 0] = target[10:30, 1] = target[0, 2] = True
    pool = assign(several(target, np.arange(40) < 30), 0)
    pool = replace(pool, split=np.full(40, "train"))
    held = holdout(strata_of(pool), pool.split, 0)
    assert target[held].sum(0).tolist() == [4, 4, 0]  # the one label of the last class trains
    assert not held[30:].any()
    assert unmeasured(pool, np.flatnonzero(held)) == ("c2",)


def test_kept_labels_of_several() -> None:
    rng = np.random.default_rng(0)
    target = rng.random((300, 3)) < 0.3
    pool = replace(several(target, np.arange(300) < 200), split=np.full(300, "train"))
    kept = {n: keep_labels(pool, n, seed=4) for n in (1, 5, 12)}
    for n, part in kept.items():
        assert part.target is not None
        has = part.label >= 0
        assert (part.target.sum(0) >= n).all()
        assert has.sum() <= 4 * n
        assert (part.target[has] == target[has]).all()
        assert not part.target[~has].any()
        assert (~part.target[has].any(1)).sum() == n  # images of no class
    rows = [set(np.flatnonzero(part.label >= 0).tolist()) for part in kept.values()]
    assert rows[0] < rows[1] < rows[2]


def numbers(values: NDArray[np.float64]) -> Pool:
    pool = make(np.where(np.isnan(values[:, 0]), -1, 0).tolist())
    return replace(pool, classes=(), task="regression", target=values)


def test_numbers_are_split_by_quantiles() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(500, 1))
    values[::5] = np.nan
    result = assign(numbers(values), 0)
    test = result.split == "test"
    assert test.sum() == 80
    assert not test[::5].any()
    known = values[~np.isnan(values)]
    edges = np.quantile(known, np.linspace(0, 1, 11))
    assert np.histogram(values[test, 0], edges)[0].tolist() == [8] * 10
    held = holdout(strata_of(result), result.split, 0)
    assert np.histogram(values[held, 0], edges)[0].tolist() == [6] * 10  # of the other 32
    assert unmeasured(result, np.flatnonzero(test)) == ()


def test_few_or_several_numbers() -> None:
    few = np.arange(9.0)[:, None]
    assert set(assign(numbers(few), 0).split) == {"train"}
    assert (assign(numbers(np.full((3, 1), np.nan)), 0).split == "train").all()
    assert (assign(numbers(np.arange(15.0)[:, None]), 0).split == "test").sum() == 3
    pair = np.column_stack([np.arange(100.0), -(np.arange(100.0) ** 2)])
    assert (assign(numbers(pair), 0).split == "test").sum() == 20
    with pytest.raises(UserError, match="there are no labels per class"):
        keep_labels(replace(numbers(few), split=np.full(9, "train")), 1, 0)


def test_rare_classes_train_and_are_named() -> None:
    pool = assign(make([0] * 20 + [1] + [2] * 3 + [-1] * 5), seed=0)
    assert set(pool.split) == {"train"}
    held = np.flatnonzero(holdout(pool.label, pool.split, seed=0))
    assert 20 not in held
    assert unmeasured(pool, held) == ("c1",)
    assert unmeasured(pool, held[:0]) == ("c0", "c1", "c2")
    assert unmeasured(pool, np.arange(29)) == ()


def test_undecided_images_follow_their_group() -> None:
    """Whatever would be drawn: a split column that is filled in for some images of a group."""
    label, split = [0, 1] * 30, [""] * 60
    split[0], split[10], split[20] = "train", "test", "val"
    group = [row // 5 for row in range(60)]
    result = assign(make(label, split, group), 0).split
    assert set(result[:5]) == {"train"}
    assert set(result[10:15]) == {"test"}
    assert set(result[20:25]) == {"val"}


@pytest.mark.parametrize("seed", range(5))
def test_of_equally_large_groups_the_first_drawn(seed: int) -> None:
    label, keys = [0] * 30 + [1] * 30, [row // 10 for row in range(60)]
    held = holdout(np.array(label), np.full(60, "train"), seed, np.array(keys), fraction=0.1)
    expected = plain_draw(label, keys, [3, 3], np.random.default_rng([2, seed]))
    assert set(np.flatnonzero(held).tolist()) == expected
    assert len(expected) == 20
