import io
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pixels import cache
from fewlabels.pixels.decode import Unreadable, square
from fewlabels.pool.source import Encoded


def png(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (6, 4), grey).save(file, "PNG")
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
    monkeypatch.setattr(cache, "square", lambda data, size: seen.append(data) or square(data, size))
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
    assert (made.digest, made.size) == (digest, 8)
    assert sorted(file.suffix for file in (tmp_path / "new").iterdir()) == [".json", ".u8"]


def test_reused(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(png(1), b"broken", png(3))
    first = built(images, tmp_path)
    assert len(decoded) == 3
    again = built(images, tmp_path)
    assert len(decoded) == 3
    np.testing.assert_array_equal(again.images, first.images)
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


def test_killed_build_is_not_taken_as_whole(tmp_path: Path, decoded: list[bytes]) -> None:
    images = source(png(1), png(2))
    built(images, tmp_path)
    about, pixels = next(tmp_path.glob("*.json")), next(tmp_path.glob("*.u8"))
    whole = pixels.read_bytes()
    for damage in (
        lambda: about.unlink(),  # killed between the two files
        lambda: pixels.write_bytes(whole[:-1]),
        lambda: pixels.unlink(),
        lambda: about.write_text('{"unread'),
        lambda: about.write_text("[]"),
    ):
        damage()
        decoded.clear()
        assert built(images, tmp_path).images[1, 4, 4, 0] == 2
        assert len(decoded) == 2
        assert pixels.read_bytes() == whole


def test_the_json_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(old: Path, new: Path) -> None:
        assert new.suffix == ".u8"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        built(source(png(1)), tmp_path)
    assert list(tmp_path.iterdir()) == []  # and nothing half-written stays


def test_interrupted_while_decoding(tmp_path: Path) -> None:
    images = source(*(png(grey) for grey in range(40)))

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.build(images, cache.fingerprint(images), 8, 2, stop, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_two_builds_at_once(tmp_path: Path) -> None:
    images = source(png(1), png(2))
    digest = cache.fingerprint(images)
    inner: list[cache.Cache] = []

    def other(done: int, total: int) -> None:
        if not inner:  # another process builds the same from start to end meanwhile
            inner.append(cache.build(images, digest, 8, folder=tmp_path))

    outer = cache.build(images, digest, 8, 2, other, tmp_path)
    np.testing.assert_array_equal(outer.images, inner[0].images)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_image_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    images = source(png(1), png(2))
    digest = cache.fingerprint(images)
    for changed in (png(3), b"gone"):
        with pytest.raises(UserError, match=r"1\.png: changed while it was being read"):
            cache.build(replace(images, blobs=(png(1), changed)), digest, 8, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="set FEWLABELS_CACHE to another folder") as error:
        built(source(png(1)), tmp_path / "file")
    assert "\n" not in str(error.value)


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
    next(tmp_path.glob("*.u8")).unlink()
    with pytest.raises(UserError, match="FEWLABELS_CACHE"):
        pickle.loads(sent)
