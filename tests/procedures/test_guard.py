"""The guard: strangers go and everything else stays, whatever unlabelled images are labelled."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fewlabels.pixels.preprocess import Preprocess
from fewlabels.procedures.guard import Guarded, by_chance, clear_of, first_map, guard, strangers

SIDE = 16
Features = np.ndarray[Any, np.dtype[np.float64]]


def known(n: int, classes: int = 4) -> tuple[Features, np.ndarray[Any, Any]]:
    """Features of images of several classes [n, 6], a cloud for each, and what they are."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % classes
    return rng.normal(size=(classes, 6))[label] + 0.7 * rng.normal(size=(n, 6)), label


def other(n: int, at: float = 4.0, seed: int = 1) -> Features:
    return at + 0.8 * np.random.default_rng(seed).normal(size=(n, 6))


def left_out(x: Features, label: Any) -> np.ndarray[Any, Any]:
    """Whether each unlabelled image is left out; the labelled ones come first."""
    n = len(x) - len(label)
    return np.isin(np.arange(n), strangers(x, np.asarray(label), np.arange(n)).out)


def test_the_threshold_clears_the_labelled_images() -> None:
    pairs = np.arange(20) // 2
    odds = -1.0 - np.arange(20.0)
    assert clear_of(odds, pairs) == 0  # all lie below 0
    odds[3] = 2.5  # one of 20: the 20th of 20 is cleared, ceil(0.95 * 21)
    assert clear_of(odds, pairs) == 2.5
    odds[7] = 3.0  # two are a tenth of them, and the group no other kind of picture
    assert clear_of(odds, pairs) == np.inf
    # ceil(0.95 * 101) = 96: two of 100 may lie above,
    many = np.r_[7.0, 6.0, -1.0 - np.arange(98.0)]
    assert clear_of(many, np.zeros(100, int)) == 0
    assert clear_of(many, np.r_[1, np.zeros(98, int), 1]) == 7.0  # but not half of a class,
    assert clear_of(many, np.r_[1, np.zeros(99, int)]) == np.inf  # and never all of it


def test_the_probability_of_so_few_labelled_images() -> None:
    """Of four images two are marked and two labelled; of the six draws one misses the marked."""
    marked = np.array([False, False, True, True])
    assert by_chance(marked[:2], marked) == pytest.approx(1 / 6)
    assert by_chance(marked[1:3], marked) == pytest.approx(5 / 6)
    assert by_chance(marked[2:], marked) == pytest.approx(1)


@pytest.mark.parametrize("labels", [20, 40])
def test_strangers_are_left_out_and_no_class_is(labels: int) -> None:
    x, kind = known(620)
    out = left_out(np.concatenate([x, other(600)]), kind[:labels])
    mine, kind = out[: 620 - labels], kind[labels:]
    assert out[620 - labels :].mean() > 0.95
    assert mine.mean() <= 0.01
    assert max(mine[kind == c].mean() for c in range(4)) <= 0.03


def test_a_clean_pool_loses_nothing() -> None:
    """Six draws of labels, classes far apart so that the two groups are groups of classes."""
    x, kind = known(600, classes=5)
    x[kind == 0] += 5
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(600)
        assert not left_out(x[order], kind[order][:30]).any()


def test_a_group_with_some_labelled_images_is_no_group_of_strangers() -> None:
    """Three of forty labelled images are of that kind, far less than half as in the pool."""
    x, kind = known(640)
    x = np.concatenate([x[:37], other(3, seed=2), x[40:], other(600)])
    assert not left_out(x, kind[:40]).any()


def test_one_wrong_label_does_not_hide_strangers_nor_lose_its_class() -> None:
    x, kind = known(640)
    x = np.concatenate([x[:39], other(1, seed=2), x[40:], other(600)])
    out = left_out(x, kind[:40])
    assert out[600:].mean() > 0.8
    assert not out[:600].any()
    alone = np.r_[kind[:39], 4]  # the only label of its class: perhaps the class looks like that
    assert not left_out(x, alone).any()


def test_few_labels_prove_nothing() -> None:
    x, kind = known(605)
    assert not left_out(np.concatenate([x, other(600)]), kind[:5]).any()


def test_several_kinds_of_strangers() -> None:
    x, kind = known(1040)
    out = left_out(np.concatenate([x, other(500, 8.0), other(500, -4.0, seed=3)]), kind[:40])
    assert out[1000:1500].mean() > 0.95
    assert out[1500:].mean() > 0.95
    assert not out[:1000].any()


@pytest.mark.parametrize(
    "x", [np.zeros((0, 0)), np.full((60, 4), np.nan), np.ones((60, 4)), np.eye(5)]
)
def test_features_that_tell_nothing(x: Features) -> None:
    n = min(2, len(x))
    found = strangers(x, np.arange(n), np.arange(len(x) - n))
    assert not len(found.out)


def test_a_thousand_classes_and_twenty_thousand_images() -> None:
    x, kind = known(11_000, classes=1000)
    out = left_out(np.concatenate([x, other(10_000, 8.0)]), kind[:1000])
    assert out[10_000:].mean() > 0.9
    assert out[:10_000].mean() < 0.01


def test_it_says_what_it_did() -> None:
    done = Guarded(np.arange(812), 1624, 20, 1)
    assert str(done) == (
        "guard: 812 of 1,624 unlabelled images look like none of the classes and are left out "
        "(1 of 20 labelled images look so)"
    )
    assert str(Guarded(np.arange(0), 1624, 20, 0)) == (
        "guard: all 1,624 unlabelled images are kept; no group stands apart"
    )
    assert str(Guarded(np.arange(0), 0, 20, 0)) == (
        "guard: there is no time to look at all unlabelled images; none is left out"
    )


def pictures(n: int, strangers: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Bright bars, upright or lying, on dark ground; then as many pictures of noise."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 2
    images = rng.integers(0, 40, (n + strangers, SIDE, SIDE, 3)).astype(np.uint8)
    for image, kind in zip(images[:n], label, strict=True):
        at, light = rng.integers(2, SIDE - 4), rng.integers(120, 250)
        image[(slice(None), slice(at, at + 3)) if kind else slice(at, at + 3)] = light
    images[n:] = rng.integers(0, 256, (strangers, SIDE, SIDE, 3))
    return images, label


def context(images: Any, label: Any, labelled: int, norm: Any = nn.BatchNorm2d) -> Any:
    """A run whose first rows are labelled; a model with this norm, in training mode."""
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 2, 1), norm(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(8, 2)).train()
    kept: dict[str, Any] = {}
    truth = np.full(len(images), -1)
    truth[: len(label)] = label
    return SimpleNamespace(
        data=SimpleNamespace(
            images=images,
            labelled=np.arange(labelled),
            unlabelled=np.arange(labelled, len(images)),
            pool=SimpleNamespace(
                label=truth, classes=("lying", "upright"), source=SimpleNamespace(name=str)
            ),
        ),
        preprocess=Preprocess(SIDE, (0.2,) * 3, (0.2,) * 3),
        fabric=SimpleNamespace(device=torch.device("cpu")),
        model=lambda weights: model,
        folder=SimpleNamespace(read_json=kept.get, write_json=kept.__setitem__),
        clock=lambda: 0.0,
        deadline=None,
    )


NORMS = {
    "batch": nn.BatchNorm2d,
    "group": lambda n: nn.GroupNorm(2, n),
    "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
    "none": lambda _: nn.Identity(),
}


@pytest.mark.parametrize("norm", NORMS)
def test_noise_amid_bars(norm: str) -> None:
    """With every kind of norm; modes stay as they are."""
    run = context(*pictures(220, 200), labelled=20, norm=NORMS[norm])
    found = guard(run, {})
    assert (found.out >= 220).sum() >= 180
    assert (found.out < 220).sum() <= 6
    assert (found.scored, found.labelled) == (400, 20)
    assert all(module.training for module in run.model({}).modules())


def test_a_kind_that_is_labelled_is_no_stranger() -> None:
    images, label = pictures(220, 200)
    assert len(guard(context(images, label, labelled=20), {}).out)
    images[10:20] = images[-10:]  # half of the labels are of the other kind
    assert not len(guard(context(images, label, labelled=20), {}).out)


def test_one_label_a_class_and_no_unlabelled_image() -> None:
    images, label = pictures(220, 200)
    assert not len(guard(context(images, label, 2), {}).out)
    nothing = guard(context(images[:20], label[:20], 20), {})
    assert (len(nothing.out), nothing.scored) == (0, 0)


def test_the_labels_of_unlabelled_images_are_not_known() -> None:
    images, label = pictures(220, 200)
    run = context(images, label, 20)
    before = guard(run, {})
    run.folder.write_json("guard.json", None)  # not what was found before
    run.data.pool.label[20:] = np.random.default_rng(1).integers(0, 2, 400)
    after = guard(run, {})
    assert np.array_equal(before.out, after.out)
    assert before.beyond == after.beyond


def test_it_draws_nothing() -> None:
    run = context(*pictures(220, 200), labelled=20)
    np.random.seed(5)  # noqa: NPY002
    state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    found = []
    for _ in range(2):
        run.folder.write_json("guard.json", None)
        found.append(guard(run, {}))
    assert np.array_equal(found[0].out, found[1].out)
    assert np.array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())


def test_an_image_is_seen_alone() -> None:
    """In eval mode, the mean of the first map: whatever else is in its batch."""
    run = context(*pictures(220, 200), labelled=20)
    rows = np.random.default_rng(0).permutation(420)
    x = first_map(run, {}, rows)
    assert np.allclose(
        x[:3], np.concatenate([first_map(run, {}, rows[i : i + 1]) for i in range(3)])
    )
    model = run.model({}).eval()
    with torch.no_grad():
        by_hand = model[:3](run.preprocess(run.data.images[rows[:5]])).mean((2, 3))
    assert np.allclose(x[:5], by_hand)


def test_what_was_found_is_kept_for_a_later_process() -> None:
    run = context(*pictures(220, 200), labelled=20)
    found = guard(run, {})
    assert run.folder.read_json("guard.json")["names"] == [str(row) for row in found.out]
    run.data.images[:] = 0  # nothing is looked at again
    again = guard(run, {})
    assert np.array_equal(found.out, again.out)
    assert str(found) == str(again)


def test_it_leaves_time_for_training() -> None:
    """420 images in batches of 64; the clock goes on by a second when it is asked."""
    for deadline, scored in ((20.0, 0), (2000.0, 400)):
        run, now = context(*pictures(220, 200), labelled=20), iter(range(100))
        run.clock, run.deadline = lambda now=now: next(now), deadline
        found = guard(run, {})
        assert found.scored == scored
        assert bool(len(found.out)) == bool(scored)
