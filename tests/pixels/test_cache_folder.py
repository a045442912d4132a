"""What lies in the cache folder is bounded, and what is in use stays."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from test_cache import Partly, built, png, source

from fewlabels.errors import UserError
from fewlabels.pixels import cache, cache_folder
from fewlabels.pixels.cache_folder import (
    NoRoom,
    clear,
    entries,
    in_words,
    limit_of,
    parse_bytes,
    room,
)

EACH = 2 * (8 * 8 * 3 + 8)  # bytes of a cache of two images of 8 px


def pool(number: int) -> Partly:
    return source(png(number), png(100 + number))


def made(number: int, folder: Path, limit: int | None = None, used: int = 0) -> cache.Cache:
    """A cache of two images that was used at that time."""
    images = pool(number)
    digest = cache.fingerprint(images)
    found = cache.build(images, digest, 8, folder=folder, limit=limit, origin=f"pool {number}")
    for journal in folder.glob("*.jsonl"):
        if f"pool {number}" in journal.read_text():
            os.utime(journal, (used, used))
    return found


def origins(folder: Path) -> list[str]:
    return [entry.origin for entry in entries(folder)]


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    for number, used in ((1, 30), (2, 10), (3, 20)):
        made(number, tmp_path, used=used)
    assert origins(tmp_path) == ["pool 1", "pool 3", "pool 2"]
    assert not made(4, tmp_path, limit=3 * EACH, used=40).note
    assert origins(tmp_path) == ["pool 4", "pool 1", "pool 3"]
    made(5, tmp_path, limit=2 * EACH + EACH - 1, used=50)
    assert origins(tmp_path) == ["pool 5", "pool 4"]
    assert len(list(tmp_path.iterdir())) == 4


def test_to_open_a_cache_is_to_use_it(tmp_path: Path) -> None:
    for number in (1, 2):
        made(number, tmp_path, used=number)
    built(pool(1), tmp_path)
    made(3, tmp_path, limit=2 * EACH, used=3)
    assert set(origins(tmp_path)) == {"pool 1", "pool 3"}


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    """For as long as its map is there, or a part of it."""
    oldest = made(1, tmp_path, used=1)
    made(2, tmp_path, used=2)
    assert [entry.in_use for entry in entries(tmp_path)] == [False, True]
    assert not made(3, tmp_path, limit=2 * EACH, used=3).note
    assert origins(tmp_path) == ["pool 3", "pool 1"]
    part = oldest.images[1:]
    del oldest
    refused = made(4, tmp_path, limit=2 * EACH - 1)
    assert refused.note
    assert refused.images[1][4, 4, 0] == 104
    assert origins(tmp_path) == ["pool 3", "pool 1"]  # nothing goes where it would not help
    assert [entry.origin for entry in clear(tmp_path)[1]] == ["pool 1"]
    assert part[0, 4, 4, 0] == 101
    del part
    assert [entry.origin for entry in clear(tmp_path)[0]] == ["pool 1"]
    assert not list(tmp_path.iterdir())


def test_what_is_deleted_before_it_is_locked_is_not_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its opening and its lock another process deletes the file and makes it anew."""
    made(1, tmp_path)
    file, lock, left = next(tmp_path.glob("*.u8")), cache_folder.lock, [1]

    def anew_first(handle: Any, exclusive: bool, wait: bool = True) -> bool:
        if not exclusive and left:
            left.pop()
            shutil.copy(file, tmp_path / "anew")
            os.replace(tmp_path / "anew", file)
        return lock(handle, exclusive, wait)

    monkeypatch.setattr(cache_folder, "lock", anew_first)
    found = built(pool(1), tmp_path)
    assert not left
    assert found.images[1, 4, 4, 0] == 101
    assert [entry.in_use for entry in entries(tmp_path)] == [True]


def test_features_and_leftovers_count_and_go_too(tmp_path: Path) -> None:
    home = tmp_path / "features" / "backbone"
    home.mkdir(parents=True)
    (home / "part.npz").write_bytes(bytes(500))
    os.utime(home, (5, 5))
    made(1, tmp_path, used=9)
    (tmp_path / "old.u8").write_bytes(bytes(300))
    (tmp_path / "old.json").write_text("{}")
    os.utime(tmp_path / "old.u8", (1, 1))
    found = entries(tmp_path)
    assert [(entry.kind, entry.bytes) for entry in found] == [
        ("pixels", EACH),
        ("features", 500),
        ("pixels", 300),
    ]
    assert [entry.complete for entry in found] == [True, True, False]
    made(2, tmp_path, limit=2 * EACH + 500, used=10)
    assert [entry.bytes for entry in entries(tmp_path)] == [EACH, EACH, 500]
    assert not (tmp_path / "old.json").exists()
    made(3, tmp_path, limit=3 * EACH + 499, used=11)
    assert [entry.bytes for entry in entries(tmp_path)] == [EACH] * 3


def test_the_limit_is_half_of_what_would_be_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = shutil.disk_usage(tmp_path)._replace(free=10 * EACH)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk)
    assert limit_of(tmp_path / "not" / "there") == 5 * EACH
    made(1, tmp_path)
    assert limit_of(tmp_path) == 11 * EACH // 2
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "2.5k")
    assert limit_of(tmp_path) == 2500
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "0")
    said = "images are decoded each time they are needed, as asked: the cache's limit is 0"
    assert made(2, tmp_path).note == said
    assert made(1, tmp_path).note == ""  # it is there
    assert limit_of(tmp_path, 10**9) == 11 * EACH  # what fits counts
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "1T")
    assert limit_of(tmp_path) == 11 * EACH
    disk = disk._replace(free=EACH - 1)
    assert "allowed or free" in made(2, tmp_path / "other", limit=10**9).note


def unfinished(number: int, folder: Path, used: float) -> None:
    """As if the process that made it had been killed at that time."""
    made(number, folder)
    for journal in folder.glob("*.jsonl"):
        if f"pool {number}" in journal.read_text():
            whole = journal.read_text().splitlines()
            journal.write_text("\n".join(line for line in whole if 'block"' not in line))
            os.utime(journal, (used, used))


def test_an_unfinished_cache_is_given_up_in_the_end(tmp_path: Path) -> None:
    """It goes before what is older but whole, and though there is room."""
    now, day = time.time(), 24 * 3600
    made(1, tmp_path, used=1)
    unfinished(3, tmp_path, used=now - 6 * day)
    unfinished(2, tmp_path, used=now - 8 * day)
    assert [entry.complete for entry in entries(tmp_path)] == [False, False, True]
    made(4, tmp_path, limit=3 * EACH, used=int(now))
    assert origins(tmp_path) == ["pool 4", "pool 3", "pool 1"]
    assert not built(pool(3), tmp_path).note  # somebody went on with it
    assert all(entry.complete for entry in entries(tmp_path))


def test_an_unfinished_cache_that_is_being_made_stays(tmp_path: Path) -> None:
    unfinished(1, tmp_path, used=1)
    with cache_folder.hold(next(tmp_path.glob("*.u8"))):
        made(2, tmp_path)
        assert set(origins(tmp_path)) == {"pool 1", "pool 2"}
    made(3, tmp_path)
    assert set(origins(tmp_path)) == {"pool 2", "pool 3"}


def test_room_for_what_grows(tmp_path: Path) -> None:
    """What is there already of it is not what makes room."""
    home = tmp_path / "features" / "backbone"
    home.mkdir(parents=True)
    (home / "part.npz").write_bytes(bytes(500))
    os.utime(home, (1, 1))
    made(1, tmp_path, used=2)
    made(2, tmp_path, used=3)
    with room(tmp_path, home, 500 + EACH, 2 * EACH + 500):
        assert origins(tmp_path) == ["pool 2", ""]
    with pytest.raises(NoRoom), room(tmp_path, home, 501, 500):
        raise AssertionError
    assert origins(tmp_path) == ["pool 2", ""]


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("10G", 10**10), ("500 MB", 5 * 10**8), ("1.5t", 1.5e12), ("12", 12)],
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text, "--cache-limit") == count


@pytest.mark.parametrize("text", ["", "ten", "-1G", "10 X", "1e9", "nan"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match=r"--cache-limit .*write a size such as 10G"):
        parse_bytes(text, "--cache-limit")


def test_sizes_in_words() -> None:
    found = [in_words(count) for count in (0, 999, 1234, 614_800_000, 10**12, 25e14)]
    assert found == ["0 B", "999 B", "1.23 kB", "615 MB", "1.0 TB", "2,500.0 TB"]


def test_nothing_there(tmp_path: Path) -> None:
    assert entries(tmp_path / "none") == []
    assert clear(tmp_path / "none") == ([], [])
