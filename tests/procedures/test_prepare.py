from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Paint
from pictures import scene
from PIL import Image

from fewlabels.augment.mix import Mix
from fewlabels.augment.policy import Policy
from fewlabels.errors import UserError
from fewlabels.methods import Facts, create, resolve
from fewlabels.pixels import anchors
from fewlabels.pixels.cache import fingerprint
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool import Pool
from fewlabels.pool.overlay import with_stored_labels
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, default_store
from fewlabels.procedures.prepare import (
    Data,
    balanced,
    batches,
    prepare,
    typical_side,
)


def prepared(root: Path, seed: int = 0, per_class: int | None = None) -> Data:
    pool = Pool.scan(root)
    return prepare(pool, fingerprint(pool.source), 16, seed, per_class)


def test_rows_fall_into_parts_that_do_not_overlap(split_folders: Path) -> None:
    data = prepared(split_folders)
    parts = [data.labelled, data.unlabelled, data.val, data.test]
    assert [len(part) for part in parts] == [8, 24, 0, 12]
    assert len(np.unique(np.concatenate(parts))) == 44
    assert len(data.held_out) == 2
    assert set(data.held_out) < set(data.labelled)
    assert sorted(data.pool.label[data.held_out]) == [0, 1]


def test_labels_per_class_turns_the_others_into_unlabelled(split_folders: Path) -> None:
    data = prepared(split_folders, per_class=1)
    assert (len(data.labelled), len(data.unlabelled), len(data.test)) == (2, 30, 12)


def test_copies_of_held_out_images_are_not_learnt_from(split_folders: Path) -> None:
    before = prepared(split_folders)
    source = before.pool.source
    for row in before.held_out:
        (split_folders / "unlabelled" / f"copy-{row}.png").write_bytes(source.read(int(row)))
    after = prepared(split_folders)
    held = {after.digest[row] for row in after.held_out}
    assert held
    assert held.isdisjoint(after.digest[row] for row in after.unlabelled)


@pytest.mark.parametrize("side", ["val", "test"])
def test_copies_of_images_that_are_measured_on_are_not_learnt_from(
    split_folders: Path, side: str
) -> None:
    (split_folders / "test").rename(split_folders / side)
    one = next((split_folders / side / "left").iterdir())
    (split_folders / "unlabelled" / "copy.png").write_bytes(one.read_bytes())
    data = prepared(split_folders)
    names = {data.pool.source.name(int(row)) for row in data.unlabelled}
    assert len(names) == 24
    assert "unlabelled/copy.png" not in names
    (note,) = data.pool.notes
    assert note.endswith("are not learnt from: 1 (unlabelled/copy.png)")


def test_labels_of_the_store_are_not_learnt_from_copies_of_test_images(
    split_folders: Path,
) -> None:
    one = next((split_folders / "test" / "left").iterdir())
    (split_folders / "unlabelled" / "copy.png").write_bytes(one.read_bytes())
    pool = Pool.scan(split_folders)
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(content_digest(one.read_bytes()), "left", "Ada", "page")])
    data = prepare(with_stored_labels(pool, fingerprint), fingerprint(pool.source), 16, 0)
    used = {data.pool.source.name(int(row)) for row in (*data.labelled, *data.unlabelled)}
    assert "unlabelled/copy.png" not in used
    assert len(data.test) == 12
    assert "are not learnt from: 1 (unlabelled/copy.png)" in data.pool.notes[-1]


def test_labelled_copies_of_test_images_are_told(split_folders: Path) -> None:
    one = next((split_folders / "test" / "left").iterdir())
    (split_folders / "train" / "left" / "copy.png").write_bytes(one.read_bytes())
    data = prepared(split_folders)
    assert len(data.labelled) == 9
    assert "look easier than new ones: 1 (train/left/copy.png)" in data.pool.notes[-1]


def test_test_images_without_a_label_train_unless_the_store_has_one(
    tmp_path: Path, paint: Paint
) -> None:
    for kind in (0, 1):
        paint(tmp_path / "all", kind, 8)
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    rows = [
        f"all/{name},{'' if n % 8 > 5 else 'below' if n > 7 else 'above'},"
        f"{'test' if n % 8 > 3 else 'train'}"
        for n, name in enumerate(names)
    ]
    (tmp_path / "images.csv").write_text("\n".join(["image,label,split", *rows]))
    pool = Pool.scan(tmp_path / "images.csv")
    digest = fingerprint(pool.source)
    data = prepare(pool, digest, 16, 0)
    assert (len(data.test), len(data.unlabelled)) == (4, 4)
    assert "images of test without a label train as unlabelled ones: 4" in data.pool.notes
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(digest[6], "above", "Ada", "page")])
    data = prepare(with_stored_labels(pool, fingerprint), digest, 16, 0)
    assert (len(data.test), len(data.unlabelled)) == (5, 3)


def test_broken_images_take_no_place_in_a_split(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / name, kind, 10)
        for i in range(10):
            (tmp_path / name / f"broken-{i}.png").write_bytes(b"no picture")
    data = prepared(tmp_path)
    assert (len(data.test), len(data.labelled), len(data.skipped)) == (4, 16, 20)


def test_a_class_whose_images_are_all_broken_is_told(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "left", 0, 3)
    (tmp_path / "right").mkdir()
    (tmp_path / "right" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="fewer than two classes"):
        prepared(tmp_path)


def test_one_image_a_class_and_no_others_is_told(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / name, kind, 1)
    with pytest.raises(UserError, match="one image a class"):
        prepared(tmp_path)


def test_the_typical_side_is_a_longer_side(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / name, kind, 3)
    assert typical_side(Pool.scan(tmp_path)) == 16


def test_batches_have_the_views_and_the_global_numbers(split_folders: Path) -> None:
    data = prepared(split_folders)
    method = create("fixmatch", Facts(2, (4, 4), len(data.pool)), resolve("fixmatch", {"ratio": 3}))
    policies = {"weak": Policy.parse("none"), "strong": Policy.parse("cutout(1)")}
    make = batches(data, data.labelled, data.unlabelled, method, policies, Preprocess(16), 4, 0)
    batch = make(0)
    assert batch.x.shape == (4, 3, 16, 16)
    assert batch.weak is not None
    assert batch.strong is not None
    assert batch.index is not None
    assert batch.weak.shape == batch.strong.shape == (12, 3, 16, 16)
    plain = Preprocess(16)(data.images[batch.index.numpy()])
    assert np.allclose(batch.weak, plain, atol=1e-5)  # the rows that `index` says
    assert not np.allclose(batch.strong, plain, atol=1e-1)
    seen = np.concatenate([make(step).index.numpy() for step in range(8)])  # 96 = 3 epochs of 32
    everything = np.concatenate([data.labelled, data.unlabelled])
    assert np.array_equal(np.sort(seen), np.sort(np.tile(everything, 3)))
    assert np.array_equal(make(5).x, make(5).x)


def test_memory_that_is_used_again_holds_the_same_batches(split_folders: Path) -> None:
    """And mixing is the same function of the step."""
    data = prepared(split_folders)
    method = create("fixmatch", Facts(2, (4, 4), len(data.pool)), resolve("fixmatch", {}))
    policies = {"weak": Policy.parse("weak"), "strong": Policy.parse("strong")}
    about = (data, data.labelled, data.unlabelled, method, policies, Preprocess(16), 4, 0)
    mix = Mix.parse("cutmix")
    fresh, again = batches(*about, mix), batches(*about, mix, slots=3)
    for step in range(7):
        one, two = fresh(step), again(step)
        assert one.y.shape == (4, 2)
        for name in ("x", "y", "weak", "strong", "index"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
    first, second, fourth = again(0).weak, again(1).weak, again(3).weak
    assert first is not None
    assert second is not None
    assert fourth is not None
    assert first.data_ptr() == fourth.data_ptr() != second.data_ptr()
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_balanced_rows_hold_every_class_as_often() -> None:
    label = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2])
    rows = balanced(np.array([0, 1, 2, 3, 4, 5, 6, 7]), label)
    assert np.bincount(label[rows]).tolist() == [5, 5, 5]
    assert sorted(np.bincount(rows, minlength=8)[5:7].tolist()) == [2, 3]  # in turn
    assert set(rows.tolist()) == set(range(8))


def test_balanced_labels_leave_the_unlabelled_stream_as_it_is(split_folders: Path) -> None:
    data = prepared(split_folders)
    facts = Facts(2, (4, 4), len(data.pool), 32)
    method = create("fixmatch", facts, resolve("fixmatch", {}))
    policies = {"weak": Policy(), "strong": Policy()}
    repeated = np.repeat(data.labelled, 3)
    made = [
        batches(data, rows, data.unlabelled, method, policies, Preprocess(16), 4, 0)(5)
        for rows in (data.labelled, repeated)
    ]
    assert made[0].index is not None
    assert made[1].index is not None
    assert torch.equal(made[0].index, made[1].index)


def test_near_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    """Each picture twice, the second one smaller and encoded with losses."""
    for number in range(40):
        place = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        scene(number).save(place / f"{number}.png")
        scene(number).resize((48, 48)).save(place / f"{number}-small.jpg")
    pool = Pool.scan(tmp_path / "photos")
    data = prepare(pool, fingerprint(pool.source), 48, 0)
    number = np.array([int(Path(pool.source.name(r)).stem.split("-")[0]) for r in range(80)])
    assert len(data.test) == 16
    for rows in (data.test, data.held_out):
        assert len(rows)
        assert sorted(np.unique(number[rows], return_counts=True)[1]) == [2] * (len(rows) // 2)
    assert len(set(data.tied.tolist())) == 40


def test_near_duplicates_of_test_images_are_not_learnt_from(tmp_path: Path, paint: Paint) -> None:
    for kind, name in enumerate(("left", "right")):
        for place in ("train", "test"):
            paint(tmp_path / place / name, kind, 3)
    scene(7).save(tmp_path / "test/left/0.png")
    scene(8).save(tmp_path / "train/left/0.png")
    (tmp_path / "unlabelled").mkdir()
    for seed in (7, 8, 9):
        scene(seed).resize((90, 90)).save(tmp_path / f"unlabelled/{seed}.jpg")
    pool = Pool.scan(tmp_path)
    data = prepare(pool, fingerprint(pool.source), 48, 0)
    names = {Path(pool.source.name(row)).stem for row in data.unlabelled}
    assert names - {"8"} == {"9"}  # 8 is the copy of an image that may be held out


def test_what_was_not_compared_is_told(
    split_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepared(split_folders).pool.notes == ()
    monkeypatch.setattr(anchors, "ANCHORS", 0)
    assert prepared(split_folders).pool.notes == (
        "near duplicates: of 44 images only equal ones are told",
    )


def test_labels_of_the_store_lie_over_those_of_the_pool(split_folders: Path) -> None:
    pool = Pool.scan(split_folders)
    assert with_stored_labels(pool, fingerprint) is pool
    row = int(np.flatnonzero(pool.label < 0)[0])
    digest = fingerprint(pool.source)
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(digest[row], "left", "Ada", "page")])
    labelled = with_stored_labels(pool, fingerprint)
    assert labelled.label[row] == pool.classes.index("left")
    assert labelled.notes == ("label store: 1 new, 0 changed, 0 removed",)
    assert len(prepare(labelled, digest, 16, 0).labelled) == 9


def test_a_test_image_whose_label_was_taken_back_is_not_measured_on(split_folders: Path) -> None:
    pool = Pool.scan(split_folders)
    row = int(np.flatnonzero(pool.split == "test")[0])
    digest = fingerprint(pool.source)
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(digest[row], "", "Ada", "page")])
    data = prepare(with_stored_labels(pool, fingerprint), digest, 16, 0)
    assert len(data.test) == 11
    assert row not in [*data.test, *data.unlabelled, *data.labelled]


def test_what_one_camera_sees_all_day_is_no_copy(tmp_path: Path) -> None:
    """Frames that differ in one corner: a group of many, and of several labels, is not tied."""
    rng = np.random.default_rng(0)
    frame = np.asarray(scene(0).resize((48, 48))).astype(int)
    for number in range(40):
        image = np.clip(frame + rng.integers(-3, 4, frame.shape), 0, 255).astype(np.uint8)
        kind = "fox" if number % 2 else "empty"
        image[30:40, 30:40] = (200, 80, 20) if kind == "fox" else image[30:40, 30:40]
        (tmp_path / kind).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / kind / f"{number}.png")
    pool = Pool.scan(tmp_path)
    data = prepare(pool, fingerprint(pool.source), 48, 0)
    assert (len(data.test), len(set(data.tied.tolist()))) == (8, 40)
    assert len(data.held_out) == 6


def test_splits_do_not_depend_on_the_store_and_keep_near_duplicates(tmp_path: Path) -> None:
    for number in range(40):
        place = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        scene(number).save(place / f"{number}.png")
        scene(number).resize((48, 48)).save(place / f"{number}-small.jpg")
    pool = Pool.scan(tmp_path / "photos")
    digest = fingerprint(pool.source)
    before = prepare(pool, digest, 48, 0)
    with LabelStore(default_store(pool.origin)) as store:
        store.add([Mark(digest[int(before.labelled[0])], "ant", "Ada", "page")])
    after = prepare(with_stored_labels(pool, fingerprint), digest, 48, 0)
    assert after.pool.classes == ("ant", "cat", "dog")
    np.testing.assert_array_equal(after.pool.split, before.pool.split)
    assert len(after.test) == 16


def labelled_so(folder: Path, labels: list[str], task: str) -> Data:
    """A pool of different pictures with these labels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(len(labels)):
        pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    rows = [f"{number}.png,{label},train" for number, label in enumerate(labels)]
    (folder / "labels.csv").write_text("\n".join(["image,label,split", *rows]))
    pool = Pool.scan(folder / "labels.csv", task=task)
    return prepare(pool, fingerprint(pool.source), 16, 0)


def test_rare_classes_are_held_out_and_learnt_too(tmp_path: Path) -> None:
    labels = ["a|b" if number in (3, 17, 30) else "a" for number in range(36)] + ["|"] * 4
    data = labelled_so(tmp_path / "images", labels, "multi")
    assert data.pool.target is not None
    assert len(data.held_out) == 8
    assert data.pool.target[data.held_out].sum(0).tolist() == [7, 1]
    np.testing.assert_array_equal(data.taught, data.pool.target.astype(np.float32))


def test_numbers_are_standardised_by_what_every_stage_learns_from(tmp_path: Path) -> None:
    labels = [f"{number**2}|{number}" for number in range(30)] + ["", ""]
    data = labelled_so(tmp_path / "images", labels, "regression")
    assert data.pool.target is not None
    learnt = np.setdiff1d(data.labelled, data.held_out)
    assert 0 < len(data.held_out) < len(data.labelled) == 30
    np.testing.assert_allclose(data.outputs.mean, data.pool.target[learnt].mean(0))
    taught = data.taught[learnt]
    assert taught.dtype == np.float32
    np.testing.assert_allclose(taught.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(taught.std(0), 1, rtol=1e-5)
