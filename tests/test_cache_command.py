"""`fewlabels cache`: what is kept of decoded images, and how to be rid of it."""

import json
from pathlib import Path

import pytest
from conftest import Paint, call

from fewlabels.pixels import cache
from fewlabels.pool import Pool

BYTES = {8: 6 * (8 * 8 * 3 + 8), 16: 6 * (16 * 16 * 3 + 8)}


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    for kind, name in enumerate(("left", "right")):
        paint(tmp_path / "photos" / name, kind, 3)
    return tmp_path / "photos"


def kept(photos: Path, size: int) -> cache.Cache:
    pool = Pool.scan(photos)
    digest = cache.fingerprint(pool.source)
    return cache.build(pool.source, digest, size, origin=pool.origin)


def told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    assert call(monkeypatch, "cache", *arguments) == 0
    return capsys.readouterr().out


def test_info(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "1M")
    monkeypatch.setenv("COLUMNS", "300")
    nothing = json.loads(told(monkeypatch, capsys, "--info", "--json"))
    assert (nothing["bytes"], nothing["caches"]) == (0, [])
    assert "0 caches, 0 images, 0 B of at most 1 MB" in told(monkeypatch, capsys)
    kept(photos, 8)
    open_now = kept(photos, 16)
    found = json.loads(told(monkeypatch, capsys, "--json"))
    assert found["bytes"] == sum(BYTES.values())
    assert (found["limit"], found["images"]) == (10**6, 12)
    about = [
        (one["size"], one["bytes"], one["in_use"], one["origin"], one["complete"])
        for one in found["caches"]
    ]
    assert about == [(size, BYTES[size], size == 16, str(photos), True) for size in (16, 8)]
    said = told(monkeypatch, capsys)
    assert "2 caches, 12 images, 5.86 kB of at most 1 MB" in said
    assert said.count(str(photos)) == 2
    assert said.count("(in use)") == 1
    assert "unfinished" not in said
    next(cache.default_folder().glob("*.jsonl")).write_text("")
    assert told(monkeypatch, capsys).count("(unfinished)") == 1
    assert len(open_now.images) == 6


def test_clear(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is in use is left and told; the user's folder is not touched."""
    before = sorted(photos.rglob("*"))
    kept(photos, 8)
    open_now = kept(photos, 16)
    found = json.loads(told(monkeypatch, capsys, "--clear", "--json"))
    assert found["freed"] == BYTES[8]
    assert [one["size"] for one in found["deleted"]] == [8]
    assert [one["size"] for one in found["left"]] == [16]
    said = told(monkeypatch, capsys, "--clear")
    assert "0 B freed, 0 caches deleted" in said
    assert "left, because a process uses them" in said
    assert len(open_now.images) == 6
    del open_now
    assert "4.66 kB freed, 1 caches deleted" in told(monkeypatch, capsys, "--clear")
    assert not list(cache.default_folder().glob("*"))
    assert sorted(photos.rglob("*")) == before


def test_a_limit_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "much")
    assert call(monkeypatch, "cache") == 2
    said = capsys.readouterr().err
    assert said == "fewlabels: FEWLABELS_CACHE_LIMIT much: write a size such as 10G or 500M\n"
