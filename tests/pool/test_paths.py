import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fewlabels.pool.folder import is_image
from fewlabels.pool.paths import are_images, exist, first_same, places, plain
from fewlabels.pool.texts import TEXT


def texts(*names: str) -> Any:
    return pa.array(names, TEXT)


def test_existence_is_what_the_file_system_says(tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "sub/deep/c.png", "bä.png", "new\nline.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "away").symlink_to("sub")
    (tmp_path / os.fsdecode(b"\xff.png")).touch()  # no UTF-8
    names = [
        "a.png", "./a.png", "sub/../a.png", "sub//b.png", "away/deep/c.png", "link.png",
        "broken.png", "loop.png", "bä.png", "new\nline.png", "sub", "sub/", ".", "..",
        "nowhere/a.png", "a.png/b.png", f"{tmp_path}/sub/b.png", "c.png", "deep/c.png", "x" * 300,
    ]  # fmt: skip
    found = exist(places(tmp_path, texts(*names)))
    assert found.tolist() == [os.path.isfile(tmp_path / name) for name in names]
    assert found.sum() == 9


def test_a_folder_that_may_not_be_listed_is_asked_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").touch()

    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert exist(places(tmp_path, texts("a.png", "b.png"))).tolist() == [True, False]


def test_each_folder_is_listed_once_and_no_file_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{folder}/{n}.png" for n in range(5) for folder in ("x", "./x", "y")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or real(folder))
    monkeypatch.setattr(os.path, "isfile", None)
    assert exist(places(tmp_path, texts(*names))).all()
    assert sorted(listed) == [str(tmp_path / "x"), str(tmp_path / "y")]


def test_the_same_path_written_differently(tmp_path: Path) -> None:
    names = ["a/b.png", "b.png", "./a//b.png", f"{tmp_path}/b.png", "a/../a/b.png", "a/B.png"]
    assert first_same(places(tmp_path, texts(*names))).tolist() == [0, 1, 0, 1, 0, 5]


def test_plain(tmp_path: Path) -> None:
    names = ("file:///x/a%20b.png", "file://host/c.png", "d%20e.png", "f\\g.png")
    assert plain(tmp_path, texts(*names)).to_pylist() == [
        "/x/a b.png", "/c.png", "d%20e.png", "f/g.png"
    ]  # fmt: skip


def test_suffixes_as_in_folders() -> None:
    names = [
        "a.png", "a.PNG", "a.jPeG", "a.b.webp", "a..jpg", "ä.tif", "\n.png", "a.svg", "png", ".png",
        "..png", ".a.png", "a.png.txt", "a.png ", "a.pn", "", "a.", "a\n.png\n",
    ]  # fmt: skip
    assert are_images(texts(*names)).tolist() == [is_image(name) for name in names]
    assert np.count_nonzero(are_images(texts(*names))) == 8
