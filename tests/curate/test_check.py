import io
import json
from dataclasses import replace

import numpy as np
import pytest
from pictures import scene
from PIL import Image

from fewlabels.curate.check import check
from fewlabels.pixels import anchors
from fewlabels.pool import Pool, Skipped
from fewlabels.pool.source import Encoded


def encoded(picture: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **how)
    return file.getvalue()


class Missing(Encoded):
    def read(self, row: int) -> bytes:
        if self.names[row] == "missing":
            raise OSError(13, "Permission denied")
        return super().read(row)


def made(*images: tuple[str, bytes, str, str], classes: tuple[str, ...] = ("cat", "dog")) -> Pool:
    """A pool of (name, bytes, split, label)."""
    names, blobs, splits, labels = zip(*images, strict=True)
    index = {name: number for number, name in enumerate(classes)} | {"": -1}
    return Pool(
        origin="here",
        source=Missing(names, blobs),
        classes=classes,
        label=np.array([index[label] for label in labels]),
        split=np.array(splits, "U5"),
        skipped=(Skipped("notes.txt", "not an image format"),),
    )


def messy() -> Pool:
    a, b, c = (scene(seed) for seed in range(3))
    turned = Image.Exif()
    turned[0x112] = 6  # to be shown turned right
    return made(
        ("a.png", encoded(a), "train", "cat"),
        ("a.bmp", encoded(a, "BMP"), "test", "cat"),
        ("b.png", encoded(b), "train", "cat"),
        (
            "b-exif.png",
            encoded(b.transpose(Image.Transpose.ROTATE_90), exif=turned),
            "train",
            "dog",
        ),
        ("c.png", encoded(c), "train", "dog"),
        ("c.jpg", encoded(c.resize((40, 40)), "JPEG", quality=60), "test", "cat"),
        ("cut.png", encoded(a)[:-500], "train", "cat"),
        ("cut again.png", encoded(a)[:-500], "train", "cat"),
        ("missing", b"", "train", "dog"),
        ("text", b"no image", "train", ""),
        ("black.png", encoded(Image.new("RGB", (64, 64), (3, 3, 3))), "train", ""),
    )


def test_check() -> None:
    seen: list[tuple[str, int, int]] = []
    found, pictures = check(messy(), progress=lambda *told: seen.append(told))
    assert [told for told in seen if told[0] == "reading"] == [
        ("reading", n, 11) for n in range(1, 12)
    ]
    assert found.images == 11
    assert found.counts["train"] == {"cat": 4, "dog": 3, "unlabelled": 2}
    reasons = {bad.name: bad.reason for bad in found.unreadable}
    assert list(reasons) == ["cut.png", "cut again.png", "missing", "text"]
    assert reasons["missing"] == "Permission denied"
    # the same picture, however it is written; and the same bytes, whatever they are
    assert found.duplicates == (
        ("a.png", "a.bmp"),
        ("b.png", "b-exif.png"),
        ("cut.png", "cut again.png"),
    )
    assert [[copy.name for copy in group] for group in found.leaks] == [["a.png", "a.bmp"]]
    assert [[copy.label for copy in group] for group in found.contradictions] == [["cat", "dog"]]
    assert found.near.duplicates == (("c.png", "c.jpg"),)
    assert [[copy.split for copy in group] for group in found.near.leaks] == [["train", "test"]]
    assert len(found.near.contradictions) == 1
    assert found.leaking == {"test": 2}
    assert found.leaky
    assert found.blank == ("black.png",)
    assert found.skipped == messy().skipped
    assert found.sizes is not None
    assert found.sizes.least == (40, 40)
    assert found.sizes.longer_side == {"32 to 63": 1, "64 to 127": 6}
    assert found.sizes.shape == {"square": 7}
    assert pictures.row["c.jpg"] == 5


def test_to_json() -> None:
    plain = json.loads(json.dumps(check(messy())[0].to_json()))
    assert plain["unreadable"][2] == {"name": "missing", "reason": "Permission denied"}
    assert plain["leaks"][0][1] == {"name": "a.bmp", "split": "test", "label": "cat"}
    assert plain["near"]["duplicates"] == [["c.png", "c.jpg"]]
    assert plain["sizes"]["most"] == [64, 64]
    assert plain["balance"]["why"]


def test_near_duplicates_that_are_not_split_yet_do_not_leak() -> None:
    pool = messy()
    found, _ = check(replace(pool, split=np.full(len(pool), "", "U5")))
    assert found.near.duplicates
    assert not found.leaky
    assert found.leaking == {}


def test_a_chain_of_exact_and_near_copies_is_one_group() -> None:
    a = scene(0)
    found, _ = check(
        made(
            ("a", encoded(a), "train", "cat"),
            ("same", encoded(a, "BMP"), "train", "cat"),
            ("near", encoded(a, "JPEG", quality=50), "test", "cat"),
            ("other", encoded(scene(1)), "test", "dog"),
        )
    )
    assert found.duplicates == (("a", "same"),)
    assert found.near.duplicates == (("a", "same", "near"),)
    assert found.leaking == {"test": 1}


def test_in_a_large_pool_only_unlabelled_copies_of_unlabelled_images_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b, c = (scene(seed) for seed in range(3))
    pool = made(
        ("a", encoded(a), "train", ""),
        ("same", encoded(a, "BMP"), "train", "cat"),
        ("near a", encoded(a, "JPEG", quality=50), "train", ""),
        ("b", encoded(b), "train", ""),
        ("near b", encoded(b, "JPEG", quality=50), "train", ""),
        ("c", encoded(c), "test", ""),
        ("near c", encoded(c, "JPEG", quality=50), "train", ""),
    )
    of_a, of_b, of_c = ("a", "same", "near a"), ("b", "near b"), ("c", "near c")
    found, _ = check(pool)
    assert found.near.duplicates == (of_a, of_b, of_c)
    assert found.notes == ()
    monkeypatch.setattr(anchors, "ANCHORS", 6)
    found, _ = check(pool)
    assert found.near.duplicates == (of_a, of_c)
    assert found.notes == (
        "near duplicates: of 7 images unlabelled ones were not compared with each other",
    )


def test_copies_within_test_do_not_leak_and_exact_ones_are_not_compared_again() -> None:
    seen: list[tuple[str, int, int]] = []
    blob = encoded(scene(0))
    found, _ = check(
        made(*((f"{n}", blob, "test", "cat") for n in range(200))),
        progress=lambda *told: seen.append(told),
    )
    assert len(found.duplicates[0]) == 200
    assert found.leaking == {}
    assert not found.leaky
    assert [told for told in seen if told[0] != "reading"] == [("comparing", 1, 1)]


def test_progress_has_a_word_for_each_scale() -> None:
    seen: list[tuple[str, int, int]] = []
    two = (("a", encoded(scene(0))), ("b", encoded(scene(0).resize((50, 50)))))
    pool = made(*((name, blob, "train", "cat") for name, blob in two))
    check(pool, progress=lambda *told: seen.append(told))
    assert seen[-2:] == [("comparing", 1, 1), ("looking closer", 1, 1)]


def test_nothing_readable() -> None:
    found, pictures = check(made(("text", b"no image", "train", "cat")))
    assert found.sizes is None
    assert found.far == ()
    assert pictures.means == {}


def test_strays_are_found_in_the_pool_and_in_their_class() -> None:
    def plain(seed: int, red: int) -> bytes:
        pixels = np.asarray(scene(seed, 32)).astype(np.int64) // 6
        return encoded(Image.fromarray((pixels + np.array([red, 90, 90])).astype(np.uint8)))

    images = [(f"{n}", plain(n, 40 if n % 2 else 180), "train", "cd"[n % 2]) for n in range(80)]
    images.append(("red among them", plain(100, 180), "train", "d"))  # like a c
    board = np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((8, 8))).astype(np.uint8)
    images.append(("board", encoded(Image.fromarray(board)), "train", ""))
    found, _ = check(made(*images, classes=("c", "d")))
    assert [each.name for each in found.far] == ["board"]
    assert [(each.name, each.label) for each in found.far_from_class] == [("red among them", "d")]
    assert found.far[0].times > 2


def test_class_means() -> None:
    _, pictures = check(
        made(
            ("black", encoded(Image.new("RGB", (8, 4))), "train", "cat"),
            ("white", encoded(Image.new("RGB", (50, 70), "white")), "train", "cat"),
            ("unlabelled", encoded(Image.new("RGB", (50, 70), "red")), "train", ""),
        )
    )
    assert list(pictures.means) == ["cat"]
    assert (pictures.means["cat"] == 128).all()


def test_wide_and_upright_images_are_counted() -> None:
    sides = [(30, 100), (60, 100), (100, 100), (150, 100), (201, 100)]
    found, _ = check(
        made(*((f"{size}", encoded(Image.new("L", size)), "train", "cat") for size in sides))
    )
    assert found.sizes is not None
    assert list(found.sizes.shape.values()) == [1] * 5
    assert found.sizes.longer_side == {"64 to 127": 3, "128 to 255": 2}


def test_a_class_that_is_none_is_told_and_is_left_out_of_the_balance() -> None:
    rng = np.random.default_rng(0)

    def grey(level: int) -> bytes:
        return encoded(
            Image.fromarray(rng.integers(level, level + 40, (16, 16, 3)).astype(np.uint8))
        )

    images = [(f"l{n}", grey(60 * (n % 2) + 40), "train", "ab"[n % 2]) for n in range(40)]
    images += [(f"u{n}", grey(100 if n < 15 else 40), "train", "") for n in range(60)]
    images.append(("doubt", grey(200), "train", "Not sure"))
    images += [(f"t{n}", grey(40), "test", "a") for n in range(9)]  # not to be learnt from
    found, _ = check(made(*images, classes=("Not sure", "a", "b")))
    assert found.no_class == ("Not sure",)
    assert list(found.balance.shares) == ["a", "b"]
    assert found.balance.probe is not None
    assert found.balance.probe.n == 40
    assert found.balance.shares["b"].value == pytest.approx(0.25, abs=0.03)
