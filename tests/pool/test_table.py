from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabels.errors import UserError
from fewlabels.pool import Pool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tables").mkdir()
    for name in "abcdef":
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    return tmp_path / "tables"


def csv_file(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_all_columns(folder: Path) -> None:
    text = (
        "group,Image, label ,split,note\r\n"
        "g1,../a.png,cat,train,x\r\n"
        f'g2,{folder.parent / "b.png"},"dog, big",train,\r\n'
        "g1,../c.png,,,\r\n"
        "\r\n"
        ",../d.png,cat,validation,\r\n"
        ",../e.png,cat,Test,\r\n"
        "g2,../f.png,cat,,\r\n"
    )
    pool = Pool.scan(csv_file(folder, text, "utf-8-sig"))
    assert pool.classes == ("cat", "dog, big")
    assert pool.label.tolist() == [0, 1, -1, 0, 0, 0]
    assert pool.split.tolist() == ["train", "train", "train", "val", "test", ""]
    assert pool.group is not None
    group = pool.group.tolist()
    assert group[0] == group[2]
    assert group[1] == group[5]
    assert len(set(group)) == 4  # an empty group is a group of its own
    assert pool.source.name(0) == "../a.png"
    assert [pool.source.read(row) for row in range(6)] == [b"a", b"b", b"c", b"d", b"e", b"f"]


def test_without_split_column(folder: Path) -> None:
    pool = Pool.scan(csv_file(folder, "image,label\n../a.png,1\n../b.png,\n../c.png,0\n"))
    assert pool.split.tolist() == ["", "train", ""]
    assert pool.group is None


def test_missing_files_and_repeated_rows_are_skipped_with_their_line(folder: Path) -> None:
    text = "image,label\n../a.png,1\n../x.png,1\n../b.png,0\n../tables/../a.png,1\n../b.svg,1\n"
    (folder.parent / "b.svg").touch()
    pool = Pool.scan(csv_file(folder, text))
    assert len(pool) == 2
    assert [(s.name, s.reason[:30]) for s in pool.skipped] == [
        ("../x.png", "no such file (line 3)"),
        ("../tables/../a.png", "the same image again (line 5)"),
        ("../b.svg", "not an image format that is re"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'image' (found: none)"),
        ("image,class\n../a.png,1\n", "no column 'label' (found: image, class)"),
        ("image;label\n../a.png;1\n", "no column 'image'"),
        ("image,label\n", "no rows"),
        ("image,label,split\n../a.png,1,holdout\n", "line 2 has the split 'holdout'"),
        ("image,label\n../a.png,1\n,2\n", "line 3 names no image"),
        ("image,label\n../a.png,1,2\n", "line 2 has 3 fields, the header has 2"),
        ("image,label\n../a.png,cat|dog\n", "several labels an image are not supported yet"),
        ("image,label,split\n../a.png,1,train\n../b.png,,test\n", "line 3 is in test but has no"),
        ("image,label\n../a.png,1\n../b.png,0\n../a.png,0\n", "two labels: 1 (line 2) and 0 (line"),
        ("image,label,split\n../a.png,1,train\n../a.png,1,test\n", "two splits: train (line 2)"),
        ("image,label\n../x.png,1\n../y.png,0\n", "none of the 2 images exists"),
        ("image,label\n../a.png,1\n../b.png,1\n", "only one class"),
        ("image,label\n../a.png,\n../b.png,\n", "no labelled training image"),
        (
            "image,label,split\n../a.png,1,train\n../b.png,0,train\n../c.png,2,test\n",
            "class '2' is in test",
        ),
    ],
)
def test_user_errors(folder: Path, text: str, said: str) -> None:
    path = csv_file(folder, text)
    with pytest.raises(UserError) as error:
        Pool.scan(path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_not_text(folder: Path) -> None:
    path = csv_file(folder, "image,label\nä.png,1\n", "latin-1")
    with pytest.raises(UserError, match="not UTF-8"):
        Pool.scan(path)


def test_parquet_table_of_paths(folder: Path) -> None:
    path = folder / "labels.parquet"
    columns = {
        "image": ["../a.png", "../b.png", "../c.png"],
        "label": [3.0, float("nan"), 12.0],  # integers beside nulls, as pandas writes them
        "split": ["train", None, "train"],
    }
    pq.write_table(pa.table(columns), path)
    pool = Pool.scan(path)
    assert pool.classes == ("3", "12")
    np.testing.assert_array_equal(pool.label, [0, -1, 1])
    assert pool.split.tolist() == ["train", "train", "train"]


def test_parquet_table_of_paths_names_the_row(folder: Path) -> None:
    path = folder / "labels.parquet"
    pq.write_table(pa.table({"image": ["../a.png", "../b.png"], "label": ["x", "y|z"]}), path)
    with pytest.raises(UserError, match=r"row 1 has the label 'y\|z'"):
        Pool.scan(path)
