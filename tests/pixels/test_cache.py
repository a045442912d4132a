import errno
import io
import pickle
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pixels import cache, cache_folder
from fewlabels.pixels import decoded as on_the_fly
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pool.source import Encoded


def png(grey: int, width: int = 6, height: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), grey).save(file, "PNG")
    return file.getvalue()


class Partly(Encoded):
    """Rows whose blob is b"gone" cannot be read at all."""

    def read(self, row: int) -> bytes:
        if self.blobs[row] == b"gone":
            raise FileNotFoundError(2, "No such file or directory")
        return self.blobs[row]


def source(*blobs: bytes) -> Partly:
    return Partly(tuple(f"{row}.png" for row in range(len(blobs))), blobs)


def built(images: Encoded, folder: Path, size: int = 8) -> cache.Cache:
    return cache.build(images, cache.fingerprint(images), size, folder=folder)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes that were decoded since."""
    seen: list[bytes] = []
    monkeypatch.setattr(
        on_the_fly, "square", lambda data, size: seen.append(data) or square(data, size)
    )
    return seen


def test_build(tmp_path: Path) -> None:
    images = source(*(png(grey) for grey in range(50)), b"broken", b"gone")
    seen: list[tuple[int, int]] = []
    digest = cache.fingerprint(images, 3, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 52) for done in range(1, 53)]
    assert digest[51] == ""
    assert len(set(digest)) == 52
    seen.clear()
    made = cache.build(
        images, digest, 8, 3, lambda done, total: seen.append((done, total)), tmp_path / "new"
    )
    assert seen == [(done, 52) for done in range(1, 53)]
    assert made.images.shape == (52, 8, 8, 3)
    assert made.images.dtype == np.uint8
    assert not made.images.flags.writeable
    for row in range(50):
        np.testing.assert_array_equal(made.images[row], square(images.read(row), 8).pixels)
    assert made.readable.tolist() == [True] * 50 + [False] * 2
    assert not made.images[50:].any()
    assert made.reason[:50] == ("",) * 50
    assert made.reason[50:] == (
        "not an image, or damaged at its start",
        "No such file or directory",
    )
    assert made.box[:50].tolist() == [[0, 1, 8, 5]] * 50  # 6x4 made 8x5
    assert not made.box[50:].any()
    assert (made.digest, made.size, made.note) == (digest, 8, "")
    assert sorted(file.suffix for file in (tmp_path / "new").iterdir()) == [".jsonl", ".u8"]


def test_reused(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(png(1), b"broken", png(3))
    first = built(images, tmp_path)
    assert len(decoded) == 3
    again = built(images, tmp_path)
    assert len(decoded) == 3
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.box, first.box)
    assert again.reason == first.reason
    assert again.readable.tolist() == [True, False, True]


def test_changed_content_size_order_or_version_is_another_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = source(png(1), png(2))
    built(images, tmp_path)
    changed = built(source(png(1), png(9)), tmp_path)
    assert changed.images[1, 4, 4, 0] == 9
    built(images, tmp_path, size=9)
    assert built(source(png(2), png(1)), tmp_path).images[0, 4, 4, 0] == 2
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    built(images, tmp_path)
    assert len(list(tmp_path.glob("*.u8"))) == 5


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images of 8 px in a block."""
    monkeypatch.setattr(cache, "BLOCK", 2 * 8 * 8 * 3)


def files(folder: Path) -> tuple[Path, Path]:
    """The pixels and the journal of the one cache there."""
    return next(folder.glob("*.u8")), next(folder.glob("*.jsonl"))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("at", [0, 100, 383, 384, -1, -8, "box"])
def test_a_flipped_bit_is_found_and_its_block_made_again(
    tmp_path: Path, decoded: list[bytes], at: int | str
) -> None:
    """Of pixels or boxes, wherever it is; five images are three blocks."""
    images = source(png(1), b"broken", png(3), png(4, 4, 6), png(5))
    first = built(images, tmp_path)
    pixels, _ = files(tmp_path)
    whole = pixels.read_bytes()
    spoilt = bytearray(whole)
    spoilt[5 * 192 + 2 * 8 if at == "box" else int(at)] ^= 64
    pixels.write_bytes(spoilt)
    decoded.clear()
    again = built(images, tmp_path)
    blocks = {0: 0, 100: 0, 383: 0, 384: 1, -1: 2, -8: 2, "box": 1}
    of = {0: [png(1), b"broken"], 1: [png(3), png(4, 4, 6)], 2: [png(5)]}
    assert decoded == of[blocks[at]]
    assert pixels.read_bytes() == whole
    np.testing.assert_array_equal(again.images, first.images)
    np.testing.assert_array_equal(again.box, first.box)
    assert again.reason == first.reason
    decoded.clear()
    built(images, tmp_path)
    assert not decoded


@pytest.mark.usefixtures("small_blocks")
def test_every_bit_of_the_journal_may_flip(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(png(1), b"broken", png(3))
    first = built(images, tmp_path)
    pixels, journal = files(tmp_path)
    whole, lines = pixels.read_bytes(), journal.read_bytes()
    mended = 0
    for place in range(len(lines)):
        spoilt = bytearray(lines)
        spoilt[place] ^= 1 << place % 7
        journal.write_bytes(spoilt)
        decoded.clear()
        again = built(images, tmp_path)
        np.testing.assert_array_equal(again.images, first.images)
        np.testing.assert_array_equal(again.box, first.box)
        assert again.reason == first.reason
        mended += bool(decoded)
    assert mended > 50
    assert pixels.read_bytes() == whole


def test_what_is_damaged_is_made_again(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(png(1), png(2))
    built(images, tmp_path)
    pixels, journal = files(tmp_path)
    whole = pixels.read_bytes()
    for damage in (
        journal.unlink,
        lambda: pixels.write_bytes(whole[:-7]),
        lambda: pixels.write_bytes(b""),
        pixels.unlink,
        lambda: journal.write_text('{"block": 0, "crc'),
        lambda: journal.write_text("[]\n{}\nnull\n"),
        lambda: journal.write_bytes(b"\xff\x00"),
    ):
        damage()
        decoded.clear()
        assert built(images, tmp_path).images[1, 4, 4, 0] == 2
        assert len(decoded) == 2
        assert pixels.read_bytes() == whole
    pixels.write_bytes(whole + b"more")  # what is there is right
    decoded.clear()
    assert built(images, tmp_path).images[1, 4, 4, 0] == 2
    assert not decoded


@pytest.mark.usefixtures("small_blocks")
def test_interrupted_while_decoding_it_goes_on_there(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(*(png(grey) for grey in range(40)))

    def stop(done: int, total: int) -> None:
        if done == 21:
            raise KeyboardInterrupt

    digest = cache.fingerprint(images)
    with pytest.raises(KeyboardInterrupt):
        cache.build(images, digest, 8, 2, stop, tmp_path)
    decoded.clear()
    seen: list[int] = []
    made = cache.build(images, digest, 8, 2, lambda done, of: seen.append(done), tmp_path)
    assert sorted(decoded) == sorted(images.blobs[20:])  # ten blocks were whole
    assert seen == [*range(2, 21, 2), *range(21, 41)]
    assert made.images[:, 4, 4, 0].tolist() == list(range(40))


@pytest.mark.usefixtures("small_blocks")
def test_two_builds_at_once_share_the_work(tmp_path: Path) -> None:
    """One builds and the other waits, hears how far it is, and decodes nothing."""
    images = source(*(png(grey) for grey in range(40)))
    digest, waits = cache.fingerprint(images), threading.Event()
    waiter: list[Future[cache.Cache]] = []
    seen: list[int] = []
    with ThreadPoolExecutor(1) as threads, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            cache.time, "sleep", lambda seconds: waits.set() or threading.Event().wait(0.01)
        )

        def wait() -> cache.Cache:
            return cache.build(Never(*vars(images).values()), digest, 8, 2, hear, tmp_path)

        def hear(done: int, total: int) -> None:
            seen.append(done)

        def built_so_far(done: int, total: int) -> None:
            if done == 10:
                waiter.append(threads.submit(wait))
                assert waits.wait(60)

        one = cache.build(images, digest, 8, 2, built_so_far, tmp_path)
        two = waiter[0].result(60)
    np.testing.assert_array_equal(one.images, two.images)
    assert seen == list(range(2, 41, 2))
    assert len(list(tmp_path.iterdir())) == 2


class Never(Partly):
    """Must not be read."""

    def read(self, row: int) -> bytes:
        raise AssertionError(row)


def test_an_image_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    images = source(png(1), png(2))
    digest = cache.fingerprint(images)
    for changed in (png(3), b"gone"):
        with pytest.raises(UserError, match=r"1\.png: changed while it was being read"):
            cache.build(replace(images, blobs=(png(1), changed)), digest, 8, folder=tmp_path)
    assert cache.build(images, digest, 8, folder=tmp_path).readable.all()


def test_empty_and_wrong_length(tmp_path: Path) -> None:
    assert built(source(), tmp_path).images.shape == (0, 8, 8, 3)
    with pytest.raises(ValueError, match="1 digests for 2 images"):
        cache.build(source(png(1), png(2)), ("x",), 8, folder=tmp_path)


def test_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "here"))
    images = source(png(1))
    cache.build(images, cache.fingerprint(images), 8)
    assert len(list((tmp_path / "here").iterdir())) == 2
    monkeypatch.delenv("FEWLABELS_CACHE")
    assert cache.default_folder().name == "images"


def same(found: cache.Cache, other: cache.Cache) -> None:
    """Whether mapped or decoded on the fly."""
    assert found.images.shape == other.images.shape
    assert len(found.images) == len(other.images)
    rows = np.random.default_rng(0).integers(0, len(other.images), 50)
    for some in (slice(None), slice(3, None, 2), rows, rows[:0], other.readable, 1, np.int64(2)):
        np.testing.assert_array_equal(found.images[some], other.images[some])
        assert found.images[some].dtype == np.uint8
    np.testing.assert_array_equal(found.box, other.box)
    assert found.reason == other.reason
    assert found.readable.tolist() == other.readable.tolist()


MIXED = source(*(png(grey, 6, 1 + grey % 9) for grey in range(30)), b"broken", b"gone")


def test_without_room_it_decodes_on_the_fly(tmp_path: Path) -> None:
    whole, digest = built(MIXED, tmp_path / "whole"), cache.fingerprint(MIXED)
    seen: list[int] = []
    made = cache.build(
        *(MIXED, digest, 8, 2, lambda done, of: seen.append(done), tmp_path / "small"),
        limit=32 * 200 - 1,  # 192 of pixels and 8 of a box
    )
    same(made, whole)
    assert seen == list(range(1, 33))
    assert "(6.4 kB where 6.4 kB are allowed" in made.note
    assert "FEWLABELS_CACHE" in made.note
    assert "\n" not in made.note
    assert not list((tmp_path / "small").iterdir())
    fits = cache.build(MIXED, digest, 8, folder=tmp_path / "small", limit=32 * 200)
    assert not fits.note
    same(fits, whole)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = built(MIXED, tmp_path / "file")
    assert "Not a directory" in made.note or "File exists" in made.note
    same(made, built(MIXED, tmp_path))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("after", [0, 4, 15])
def test_a_disk_that_is_full_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes], after: int
) -> None:
    """After so many blocks. They are not decoded again, and nothing is left of the cache."""
    whole, left = built(MIXED, tmp_path / "whole"), [after]
    write = cache._write

    def full(*given: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*given)

    monkeypatch.setattr(cache, "_write", full)
    decoded.clear()
    made = built(MIXED, tmp_path / "full")
    assert all(decoded.count(blob) == 1 for blob in MIXED.blobs[: 2 * after])
    assert "no space left" in made.note
    assert not list((tmp_path / "full").iterdir())
    same(made, whole)


@pytest.mark.parametrize("small_disk", ["64k"], indirect=True)
def test_a_real_disk_that_is_full(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose free space nobody could know of before."""
    made = built(MIXED, small_disk, size=48)  # 222 kB
    assert "are allowed or free" in made.note
    monkeypatch.setattr(cache_folder, "_free", lambda folder: 10**9)
    monkeypatch.setattr(cache, "BLOCK", 8 * 48 * 48 * 3)
    made = built(MIXED, small_disk, size=48)
    assert "no space left" in made.note
    assert not list(small_disk.iterdir())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    made = built(MIXED, small_disk / "images", size=48)
    assert "Read-only file system" in made.note
    same(made, built(MIXED, tmp_path / "whole", size=48))


def test_on_the_fly_the_last_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[bytes]
) -> None:
    made = cache.build(MIXED, cache.fingerprint(MIXED), 8, folder=tmp_path, limit=0)
    monkeypatch.setattr(on_the_fly, "KEPT", 2 * 192)
    decoded.clear()
    for rows, count in (([0, 1], 2), ([0, 1], 2), ([0, 2], 3), ([0], 3), ([1], 4)):
        for row in rows:
            made.images[row][:] = 0  # what is kept is not what is given away
        assert len(decoded) == count
    np.testing.assert_array_equal(made.images[1], square(MIXED.read(1), 8).pixels)
    assert len(decoded) == 4


def test_on_the_fly_an_image_that_changed_is_an_error(tmp_path: Path) -> None:
    blobs = [png(1), png(2)]
    images = source(*blobs)
    made = cache.build(images, cache.fingerprint(images), 8, folder=tmp_path, limit=0)
    object.__setattr__(images, "blobs", (png(1), png(3)))
    assert made.images[[0]].shape == (1, 8, 8, 3)
    with pytest.raises(UserError, match=r"1\.png: changed"):
        made.images[[0, 1]]


def test_square_is_the_one_path() -> None:
    assert square(png(7), 6).pixels[3, 3].tolist() == [7, 7, 7]
    with pytest.raises(Unreadable):
        square(b"broken", 6)


def test_another_process_is_sent_where_the_pixels_lie(tmp_path: Path) -> None:
    """Not the pixels; but of a part, or a copy, the pixels."""
    images = built(source(*(png(grey) for grey in range(40))), tmp_path, 32).images
    sent = pickle.dumps(images)
    assert len(sent) < 1000 < images.nbytes
    there = pickle.loads(sent)
    assert np.array_equal(there, images)
    assert not there.flags.writeable
    for some in (images[3:5], images[[1, 7]], images[:, :4]):
        assert np.array_equal(pickle.loads(pickle.dumps(some)), some)
    fly = cache.build(MIXED, cache.fingerprint(MIXED), 8, folder=tmp_path, limit=0)
    same(replace(fly, images=pickle.loads(pickle.dumps(fly.images))), fly)
    next(tmp_path.glob("*.u8")).unlink()
    with pytest.raises(UserError, match="FEWLABELS_CACHE"):
        pickle.loads(sent)
