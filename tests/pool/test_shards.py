import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabels.errors import UserError
from fewlabels.pool import Pool
from fewlabels.pool import source as source_module

NAMES = ["zebra", "ant", "cow"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def shard(
    path: Path,
    labels: list[Any],
    names: list[str] | None = None,
    paths: bool = True,
    **columns: Any,
) -> None:
    """Row r of the shard holds the bytes "<file>:<r>"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [
        {
            "bytes": f"{path.name}:{row}".encode(),
            "path": f"{path.stem}/{row}.jpg" if paths else None,
        }
        for row in range(len(labels))
    ]
    table = pa.table({"image": pa.array(images, IMAGE), "label": labels, **columns})
    if names:
        feature: Any = {"names": names, "_type": "ClassLabel"}
        if any(isinstance(label, list) for label in labels):
            feature = {"feature": feature, "_type": "Sequence"}
        features = {"label": feature}
        about = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": about})
    pq.write_table(table, path, row_group_size=2)


def test_hub_folder(tmp_path: Path) -> None:
    shard(tmp_path / "data/train-00000-of-00002.parquet", [0, 1, None, 2, -1], NAMES)
    shard(tmp_path / "data/train-00001-of-00002.parquet", [1], NAMES)
    shard(tmp_path / "data/test-00000-of-00001.parquet", [2, 2, 0], NAMES)
    (tmp_path / "README.md").touch()
    pool = Pool.scan(tmp_path)
    assert pool.classes == ("ant", "cow", "zebra")  # sorted, whatever the order in the schema
    assert pool.split.tolist() == ["test"] * 3 + ["train"] * 6
    assert pool.label.tolist() == [1, 1, 2, 2, 0, -1, 1, -1, 0]
    assert [s.name for s in pool.skipped] == ["README.md"]
    assert pool.source.name(0) == "test-00000-of-00001/0.jpg"
    assert pool.source.read(8) == b"train-00001-of-00002.parquet:0"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.parquet", "train"),
        ("validation.parquet", "val"),
        ("plain_text/test/0000.parquet", "test"),
        ("unlabeled-00000-of-00001.parquet", "unlabelled"),
        ("trainees.parquet", ""),
        ("0000.parquet", ""),
    ],
)
def test_split_by_name(tmp_path: Path, name: str, split: str) -> None:
    shard(tmp_path / "train-0.parquet", ["a", "b"])
    shard(tmp_path / name, ["a", "b"])
    counts = Pool.scan(tmp_path).counts()
    if split == "unlabelled":
        assert counts == {"train": {"a": 1, "b": 1, "unlabelled": 2}}
    elif split == "train":
        assert counts == {"train": {"a": 2, "b": 2, "unlabelled": 0}}
    else:
        assert counts[split] == {"a": 1, "b": 1, "unlabelled": 0}


def test_one_file_is_still_to_be_split(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [0, 1, -1], NAMES, paths=False)
    pool = Pool.scan(tmp_path / "train.parquet")
    assert pool.split.tolist() == ["", "", "train"]
    assert pool.classes == ("ant", "zebra")
    assert pool.source.name(2) == "train.parquet#2"


def test_split_and_group_columns(tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    shard(file, ["a", "b", "a"], split=["train", "train", "test"], group=[7, 8, 9])
    pool = Pool.scan(file)
    assert pool.split.tolist() == ["train", "train", "test"]
    assert pool.group is not None
    assert pool.group.tolist() == [0, 1, 2]


def test_a_group_in_two_splits(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", ["a", "b"], group=[7, 8])
    shard(tmp_path / "test.parquet", ["a", "b", None], split=["", "", "train"], group=[9, 8, 9])
    assert (
        "test.parquet: row 1 and train.parquet: row 1 have the same group, but one is in test "
        "and one in train" in user_error(tmp_path)
    )
    assert len(Pool.scan(tmp_path, to_train=False)) == 5


def test_every_row_by_threads_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "KEPT_BYTES", 0)  # one row group at a time
    shard(tmp_path / "train.parquet", ["a", "b"] * 4 + ["a"])
    shard(tmp_path / "val.parquet", ["a"] * 5)
    source = Pool.scan(tmp_path).source
    expected = [f"train.parquet:{r}" for r in range(9)] + [f"val.parquet:{r}" for r in range(5)]
    rows = np.random.default_rng(0).permutation(14).tolist() * 3
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(source.read, rows))
    assert read == [expected[row].encode() for row in rows]
    with pytest.raises(IndexError):
        source.read(14)


def test_row_groups_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "train.parquet", ["a", "b"] * 3)
    source = Pool.scan(tmp_path).source
    opened = []
    real = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda path: opened.append(path) or real(path))
    for row in range(6):
        source.read(row)
    assert len(opened) == 3


def test_a_row_without_bytes_is_read_beside_the_shard_or_is_an_oserror(tmp_path: Path) -> None:
    images = [{"bytes": None, "path": "x.png"}, {"bytes": None, "path": None}]
    table = pa.table({"image": pa.array(images, IMAGE), "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "x.png").write_bytes(b"beside")
    source = Pool.scan(tmp_path / "t.parquet").source
    assert source.read(0) == b"beside"
    with pytest.raises(OSError, match="no image in this row"):
        source.read(1)


def user_error(path: Path) -> str:
    with pytest.raises(UserError) as error:
        Pool.scan(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_user_errors(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    assert "not a Parquet file, or damaged" in user_error(broken)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["x"], "label": ["a"]}), other)
    assert "no column 'image' (found: text, label)" in user_error(other)
    pq.write_table(pa.table({"image": [3], "label": ["a"]}), other)
    assert "the column 'image' is int64" in user_error(other)
    shard(other, [0, 3], NAMES)
    assert "row 1 has the label 3, but the schema names 3 classes" in user_error(other)
    shard(other, [0, 1], ["a|b", "c"])
    assert "the schema has a class 'a|b'" in user_error(other)
    shard(other, [])
    assert "no rows" in user_error(other)


def test_user_errors_of_folders(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", ["a", "b"])
    shard(tmp_path / "test.parquet", ["a", "c"])
    assert "class 'c' is in test" in user_error(tmp_path)
    pq.write_table(pa.table({"image": ["x.png"], "label": ["a"]}), tmp_path / "test.parquet")
    assert "a table of paths among shards" in user_error(tmp_path)


def test_scan_reads_no_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(tmp_path / "train.parquet", ["a", "b"])
    read = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(
        pq.ParquetFile, "read", lambda self, columns: read.append(columns) or real(self, columns)
    )
    Pool.scan(tmp_path)
    assert read == [["image.path", "label"]]


def test_names_stay_distinct(tmp_path: Path) -> None:
    shard(tmp_path / "a/train-0.parquet", ["a", "b"])
    shard(tmp_path / "b/train-0.parquet", ["a", "b"])
    pool = Pool.scan(tmp_path)
    assert len({pool.source.name(row) for row in range(4)}) == 4


def test_several_labels(tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    shard(file, [[0, 2], [], None, [1], [-1]], NAMES)
    pool = Pool.scan(file, to_train=False)
    assert (pool.task, pool.classes) == ("multi", ("ant", "cow", "zebra"))
    texts = [pool.label_text(row) for row in range(5)]
    assert texts == ["cow|zebra", "|", "", "ant", "|"]
    shard(file, [[0], [1, 3]], NAMES)
    with pytest.raises(UserError, match="row 1 has the label 3, but the schema names 3 classes"):
        Pool.scan(file)
    shard(file, [["x"], ["y"]])  # one each, and still a list
    assert Pool.scan(file, to_train=False).task == "multi"


def test_a_local_copy_of_a_set_with_hidden_labels(tmp_path: Path) -> None:
    """As `hf:` reads it: they stay where they stand, their labels may come from elsewhere."""
    for names, note in (
        (NAMES, ()),
        (None, ("-1 is read as unlabelled (3 images); if it is a class, call it otherwise",)),
    ):
        shard(tmp_path / "train.parquet", [0, 1, -1], names)
        shard(tmp_path / "test.parquet", [-1, -1], names)
        pool = Pool.scan(tmp_path)
        assert pool.split.tolist() == ["test"] * 2 + ["train"] * 3
        assert (pool.label >= 0).tolist() == [False, False, True, True, False]
        assert pool.notes == note


def test_minus_one_is_the_same_in_all_shards(tmp_path: Path) -> None:
    shard(tmp_path / "train-0.parquet", [1, -1])  # alone it were a sign
    shard(tmp_path / "train-1.parquet", [0, 1])
    assert Pool.scan(tmp_path).label.tolist() == [1, -1, 0, 1]
    shard(tmp_path / "train-1.parquet", [-1, 1])
    assert Pool.scan(tmp_path).classes == ("-1", "1")
    # numbers keep their sign
    pool = Pool.scan(tmp_path, to_train=False, task="regression")
    assert pool.target is not None
    assert pool.target[:, 0].tolist() == [1, -1, -1, 1]


def test_a_class_that_is_declared_as_minus_one(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [0, 1, 2, -1], ["-1", "0", "1"])
    pool = Pool.scan(tmp_path)
    assert (pool.classes, pool.label.tolist(), pool.notes) == (("-1", "0", "1"), [0, 1, 2, -1], ())


def test_shards_without_labels_may_be_joined(tmp_path: Path) -> None:
    cells = [{"bytes": b"x", "path": None}] * 2
    pq.write_table(pa.table({"image": pa.array(cells, IMAGE)}), tmp_path / "bare.parquet")
    said = "no column 'label' (found: image)"
    assert user_error(tmp_path / "bare.parquet").endswith(
        f"no labelled training image among 2; {said}"
    )
    shard(tmp_path / "more.parquet", ["a", "b"])
    pool = Pool.scan([tmp_path / "bare.parquet", tmp_path / "more.parquet"])
    assert pool.label.tolist() == [-1, -1, 0, 1]
    assert pool.notes == (f"{said}: its images are unlabelled",)


def test_numbers(tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    shard(file, [0.1, -1.0, None, float("nan"), 3.0])
    pool = Pool.scan(file, to_train=False, task="regression")
    assert pool.target is not None
    np.testing.assert_array_equal(pool.target[:, 0], [0.1, -1, np.nan, np.nan, 3])
    assert pool.label.tolist() == [0, 0, -1, -1, 0]
    shard(file, [[1.0, 2.5], None, [0.0, -1.0]])
    pool = Pool.scan(file, to_train=False, task="regression")
    assert pool.target is not None
    np.testing.assert_array_equal(pool.target, [[1, 2.5], [np.nan, np.nan], [0, -1]])
    assert pool.label_text(0) == "1|2.5"


def test_a_column_of_images_of_another_name(tmp_path: Path) -> None:
    for name in ("train-0", "test-0"):
        shard(tmp_path / f"{name}.parquet", ["a", "b"])
        table = pq.read_table(tmp_path / f"{name}.parquet")
        pq.write_table(table.rename_columns(["img", "label"]), tmp_path / f"{name}.parquet")
    pool = Pool.scan(tmp_path)
    assert pool.source.read(2) == b"train-0.parquet:0"
    assert pool.notes == ("the column 'img' is read as image",)
    shard(tmp_path / "train-1.parquet", ["a"])
    assert "the images' column is 'image', in test-0.parquet it is 'img'" in user_error(tmp_path)
