"""Other images in the place of a pool's own unlabelled ones."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Paint

from fewlabels.errors import UserError
from fewlabels.pool.pool import Pool, scan_images


def test_they_take_the_place_of_the_unlabelled_ones(
    split_folders: Path, tmp_path: Path, paint: Paint
) -> None:
    pool = Pool.scan(split_folders)
    paint(tmp_path / "others" / "a" / "b", 2, 3)
    paint(tmp_path / "others", 2, 2)
    joined = pool.with_unlabelled(scan_images(tmp_path / "others"))
    own = pool.label >= 0
    assert len(joined) == own.sum() + 5
    assert joined.counts()["train"] == {"left": 4, "right": 4, "unlabelled": 5}
    assert joined.counts()["test"] == pool.counts()["test"]
    kept = np.flatnonzero(own)
    for row, before in enumerate(kept):
        assert joined.source.name(row) == pool.source.name(int(before))
        assert joined.source.read(row) == pool.source.read(int(before))
        assert joined.label[row] == pool.label[before]
    others = sorted((tmp_path / "others").rglob("*.png"))
    read = [joined.source.read(row) for row in range(len(kept), len(joined))]
    assert sorted(read) == sorted(path.read_bytes() for path in others)


def test_each_is_a_group_of_its_own(split_folders: Path) -> None:
    from dataclasses import replace

    pool = Pool.scan(split_folders)
    grouped = replace(pool, group=np.arange(len(pool)) // 2)
    joined = grouped.with_unlabelled(scan_images(split_folders / "unlabelled"))
    assert joined.group is not None
    new = joined.group[-24:]
    assert len(set(new)) == 24
    assert not set(new) & set(joined.group[:-24])


def test_labels_of_other_images_do_not_matter(split_folders: Path) -> None:
    assert len(scan_images(split_folders / "train")) == 8
    assert len(scan_images("digits")) == 1797


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        scan_images(tmp_path / "empty")
    with pytest.raises(UserError, match="no such file or folder"):
        scan_images(tmp_path / "nowhere")
