import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabels.errors import UserError
from fewlabels.pool import Pool, paths, table
from fewlabels.pool.labels import no_classes
from fewlabels.pool.source import Files
from fewlabels.pool.texts import Texts


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


def test_what_has_no_label_stays_where_it_is_put(folder: Path) -> None:
    """And trains where it is put nowhere."""
    text = "image,label,split\n../a.png,1,train\n../b.png,,test\n../c.png,0,\n../d.png,,\n"
    pool = Pool.scan(csv_file(folder, text), to_train=False)
    assert pool.split.tolist() == ["train", "test", "", "train"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "parquet of text"])
def test_minus_one_is_unlabelled(folder: Path, kind: str) -> None:
    def scan(labels: list[int], task: str | None = None) -> Pool:
        images = [f"../{name}.png" for name in "abcdef"[: len(labels)]]
        if kind == "csv":
            lines = [f"{image},{label}" for image, label in zip(images, labels, strict=True)]
            path = csv_file(folder, "\n".join(["image,label", *lines]))
        else:
            path = folder / "labels.parquet"
            texts = labels if kind == "parquet" else [str(label) for label in labels]
            pq.write_table(pa.table({"image": images, "label": texts}), path)
        return Pool.scan(path, to_train=False, task=task)

    pool = scan([0, -1, 1, -1])
    assert (pool.classes, pool.label.tolist()) == (("0", "1"), [0, -1, 1, -1])
    assert pool.notes == (
        "-1 is read as unlabelled (2 images); if it is a class, call it otherwise",
    )
    pool = scan([1, -1, 1])  # a sign
    assert (pool.classes, pool.label.tolist()) == (("-1", "1"), [1, 0, 1])
    assert pool.notes == ()
    assert scan([-1, -1]).label.tolist() == [-1, -1]
    pool = scan([0, -1, 1], "regression")
    assert pool.target is not None
    assert pool.target[:, 0].tolist() == [0, -1, 1]
    assert pool.notes == ()


@pytest.mark.parametrize("kind", ["csv", "parquet", "parquet of text"])
def test_whole_numbers_beside_blanks(folder: Path, kind: str) -> None:
    """As pandas writes a column of integers with gaps: all are floats."""

    def scan(labels: list[float | None], task: str | None = None) -> Pool:
        images = [f"../{name}.png" for name in "abcdef"[: len(labels)]]
        texts = ["" if label is None else str(label) for label in labels]
        if kind == "csv":
            lines = [f"{image},{text}" for image, text in zip(images, texts, strict=True)]
            path = csv_file(folder, "\n".join(["image,label", *lines]))
        else:
            path = folder / "labels.parquet"
            column = labels if kind == "parquet" else texts
            pq.write_table(pa.table({"image": images, "label": column}), path)
        return Pool.scan(path, to_train=False, task=task)

    pool = scan([0.0, -1.0, 10.0, None, 2.0])
    assert (pool.classes, pool.label.tolist()) == (("0", "2", "10"), [0, -1, 2, -1, 1])
    assert pool.notes[0].startswith("-1 is read as unlabelled (1 images)")
    pool = scan([0.0, -1.0, None], "regression")
    assert pool.target is not None
    np.testing.assert_array_equal(pool.target[:, 0], [0, -1, np.nan])


def test_other_names_with_a_point_stay(folder: Path) -> None:
    text = "image,label\n../a.png,1.0\n../b.png,2.5\n../c.png,v3.0\n"
    pool = Pool.scan(csv_file(folder, text), to_train=False)
    assert pool.classes == ("1.0", "2.5", "v3.0")


def test_minus_one_among_declared_names(folder: Path) -> None:
    def scan(names: list[str], labels: list[int]) -> Pool:
        images = [f"../{name}.png" for name in "abcdef"[: len(labels)]]
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = json.dumps({"info": {"features": features}})
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table.replace_schema_metadata({"huggingface": about}), folder / "t.parquet")
        return Pool.scan(folder / "t.parquet", to_train=False)

    pool = scan(["0", "1"], [1, -1, 1])
    assert (pool.classes, pool.label.tolist(), pool.notes) == (("1",), [0, -1, 0], ())
    pool = scan(["-1", "0", "1"], [0, 1, 2, -1])  # one of them is called so
    assert (pool.classes, pool.label.tolist(), pool.notes) == (("-1", "0", "1"), [0, 1, 2, -1], ())


def test_a_table_without_labels_may_be_joined(folder: Path) -> None:
    path = csv_file(folder, "image\n../a.png\n../b.png\n")
    said = "no column 'label' (found: image)"
    with pytest.raises(UserError) as error:
        Pool.scan(path)
    assert str(error.value) == f"{path}: no labelled training image among 2; {said}"
    pq.write_table(pa.table({"image": ["../c.png"]}), folder / "t.parquet")
    (folder / "more.csv").write_text("image,label\n../d.png,x\n../e.png,y\n")
    pool = Pool.scan([path, folder / "t.parquet", folder / "more.csv"])
    assert pool.label.tolist() == [-1, -1, -1, 0, 1]
    assert pool.notes == (f"{said}: its images are unlabelled",)


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
        ("image,animal\n../a.png,1\n", "no column 'label' (found: image, animal)"),
        ("../a.png,cat\n../b.png,dog\n", "no column 'image' (found: ../a.png, cat)"),
        ("image,label\n", "no rows"),
        ("image,label,split\n../a.png,1,holdout\n", "line 2 has the split 'holdout'"),
        ("image,label\n../a.png,1\n,2\n", "line 3 names no image"),
        ("image,label\n../a.png,1,2\n", "line 2 has 3 fields, the header has 2"),
        ("image,label\n../a.png,|\n", "no labelled image has a class"),
        ("path,file,label\n../a.png,x,1\n", "columns 'path' and 'file' may all be the image"),
        ("image,label,Label\n../a.png,1,1\n", "columns 'label' and 'Label' may all be the label"),
        ('image,label\n"../a.png,1\n../b.png,0\n', "line 3 has 1 fields"),
        (
            "image,label,split,group\n../a.png,1,train,g\n../b.png,0,train,h\n../c.png,1,test,g\n",
            "line 2 and line 4 have the same group, but one is in train and one in test",
        ),
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
    with pytest.raises(UserError, match=r"not UTF-8 text \(Latin-1, perhaps\); save the table"):
        Pool.scan(path)


TWO = "image,label\n../a.png,x\n../b.png,y\n"  # the table that the following ones mean


@pytest.mark.parametrize(
    "text",
    [
        TWO,
        TWO.replace(",", ";"),
        TWO.replace(",", "\t"),
        TWO.replace("\n", "\r\n"),
        TWO.replace("\n", "\n\n"),
        TWO.replace("\n", "\r"),
        TWO.replace("\n", "\n  \n"),
        "\n" + TWO,
        TWO.replace(",", " , "),
        TWO.upper().replace("PNG", "png").replace("../A", "../a").replace("../B", "../b"),
        TWO.replace("../", "..\\"),
        TWO.replace("../", "./../tables/..//"),
        '"Image",Label\n"../a.png","x"\n"../b.png",y\n',
        ",image,label\n0,../a.png,x\n1,../b.png,y\n",
        "file name,Class\n../a.png,x\n../b.png,y\n",
        "label,filepath\nx,../a.png\ny,../b.png\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ways_to_write_one_table(folder: Path, text: str, encoding: str) -> None:
    pool = Pool.scan(csv_file(folder, text, encoding))
    assert [name.lower() for name in pool.classes] == ["x", "y"]
    assert pool.label.tolist() == [0, 1]
    assert [pool.source.read(row) for row in range(2)] == [b"a", b"b"]
    assert not pool.skipped


def test_the_line_is_that_of_the_file_whatever_lies_between(folder: Path) -> None:
    text = 'image,label,note\n\n../a.png,1,"two\nlines"\n \n../x.png,1,\n../b.png,0,\n'
    assert Pool.scan(csv_file(folder, text)).skipped[0].reason == "no such file (line 6)"


def test_a_missing_file_that_is_named_twice(folder: Path) -> None:
    text = "image,label\n../x.png,1\n../x.png,1\n../a.png,0\n"
    pool = Pool.scan(csv_file(folder, text), to_train=False)
    assert [s.reason for s in pool.skipped] == [
        "no such file (line 2)",
        "the same image again (line 3)",
    ]
    assert len(pool) == 1


def test_file_uris_and_absolute_paths(folder: Path) -> None:
    (folder.parent / "ä b%.png").write_bytes(b"odd")
    root = folder.parent
    uris = [f"file://{root}/a.png", (root / "ä b%.png").as_uri(), f"file://localhost{root}/c.png"]
    names = [*uris, f"{root}/d.png", f"{root}/tables/../a.png"]
    lines = [f"{name},{n % 2}" for n, name in enumerate(names)]
    pool = Pool.scan(csv_file(folder, "\n".join(["image,label", *lines])))
    assert [pool.source.read(row) for row in range(len(pool))] == [b"a", b"odd", b"c", b"d"]
    assert pool.skipped[0].reason == "the same image again (line 6)"


def test_a_backslash_in_a_name_is_one_where_such_a_file_exists(folder: Path) -> None:
    (folder / "a\\b.png").write_bytes(b"odd")
    pool = Pool.scan(csv_file(folder, "image,label\na\\b.png,1\n../a.png,0\n"))
    assert pool.source.read(0) == b"odd"


def test_what_was_taken_for_what_is_noted(folder: Path) -> None:
    text = ",File_Name,class,label,width,split\n0,../a.png,q,x,9,train\n1,../b.png,q,y,9,train\n"
    assert Pool.scan(csv_file(folder, text)).notes == (
        "the column 'File_Name' is read as image",
        "not used: columns 'class', 'width'",
    )
    assert Pool.scan(csv_file(folder, TWO)).notes == ()


def test_a_class_that_says_it_is_none_stays_one_and_is_known(folder: Path) -> None:
    text = "image,label\n../a.png,Not sure\n../b.png,cat\n../c.png,?\n../d.png,Not sure\n"
    pool = Pool.scan(csv_file(folder, text))
    assert pool.classes == ("?", "Not sure", "cat")
    assert no_classes(pool) == ("?", "Not sure")


def test_images_are_found_by_name_where_no_path_is_right(folder: Path) -> None:
    """As in a table of identifiers; a name that two files have is left as it is."""
    home = folder / "home"
    for name in ("one/a.png", "one/b.png", "two/b.png", "two/c.jpg"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"")
    text = "image,label\na,x\nb,x\nelsewhere/c.jpg,y\nd,y\n"
    pool = Pool.scan(csv_file(home, text))
    assert [pool.source.name(row) for row in range(len(pool))] == ["one/a.png", "two/c.jpg"]
    assert pool.notes == (f"images are found by their names below {home}: 2 of 4, as one/a.png",)
    assert [skipped.name for skipped in pool.skipped] == ["b", "d"]
    (home / "a").mkdir()  # no image
    (home / "d").write_bytes(b"")  # one path is right: none is looked for elsewhere
    with pytest.raises(UserError, match="no image in a format"):
        Pool.scan(csv_file(home, text))


def test_more_rows_than_a_block(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BLOCK", 2)
    monkeypatch.setattr(paths, "BLOCK", 2)
    lines = [f"../{name},{n % 2},g{n % 3}" for n, name in enumerate(["a.png", "x.png", *"bcdef"])]
    lines = [line.replace(",", ".png,", 1) if ".png" not in line else line for line in lines]
    pool = Pool.scan(csv_file(folder, "\n".join(["image,label,group", *lines])))
    assert [pool.source.read(row) for row in range(6)] == [b"a", b"b", b"c", b"d", b"e", b"f"]
    assert pool.label.tolist() == [0, 0, 1, 0, 1, 0]
    assert pool.group is not None
    assert pool.group.tolist() == [0, 1, 0, 2, 1, 0]
    assert pool.skipped[0].reason == "no such file (line 3)"


def test_names_are_one_block_of_memory(folder: Path) -> None:
    source = Pool.scan(csv_file(folder, TWO)).source
    assert isinstance(source, Files)
    assert isinstance(source.paths, Texts)


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
    pq.write_table(pa.table({"image": ["../a.png", ""], "label": ["x", "y"]}), path)
    with pytest.raises(UserError, match="row 1 names no image"):
        Pool.scan(path)
    pq.write_table(pa.table({"image": ["../a.png"], "label": [{"x": 1}]}), path)
    with pytest.raises(UserError, match=r"the column 'label' is struct<x: int64>"):
        Pool.scan(path)


def test_parquet_columns_of_other_names_and_kinds(folder: Path) -> None:
    path = folder / "labels.parquet"
    kinds = {
        "File": pa.array(["../a.png", "../b.png", None], pa.large_string()),
        "category": pa.array([b"x", b"y", None]),
        "group": pa.array([True, None, True]),
        "split": pa.array(["Train", "val", ""]).dictionary_encode(),
    }
    columns = {name: column.slice(0, 2) for name, column in kinds.items()}
    pq.write_table(pa.table(columns), path)
    pool = Pool.scan(path, to_train=False)
    assert pool.classes == ("x", "y")
    assert pool.split.tolist() == ["train", "val"]
    assert pool.group is not None
    assert pool.notes[0] == "the column 'File' is read as image"
