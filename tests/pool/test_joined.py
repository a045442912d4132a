"""Several sources as one pool."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Paint

from fewlabels.errors import UserError
from fewlabels.pool import Pool
from fewlabels.pool.joined import join
from fewlabels.pool.source import Encoded, Joined
from fewlabels.pool.split import assign


def told(pool: Pool) -> dict[str, tuple[str, str]]:
    """{name: (class, split)}"""
    return {
        pool.source.name(row): (
            pool.classes[pool.label[row]] if pool.label[row] >= 0 else "",
            str(pool.split[row]),
        )
        for row in range(len(pool))
    }


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """Class folders, a table with splits and groups, and a Parquet file."""
    for name in ("ant/1.png", "ant/2.png", "bee/1.png", "loose.png"):
        write(tmp_path / "photos" / name, name.encode())
    for name in "abc":
        write(tmp_path / f"more/{name}.png", name.encode())
    text = "image,label,split,group\na.png,bee,train,g\nb.png,cow,test,\nc.png,cow,train,g\n"
    write(tmp_path / "more/more.csv", text.encode())
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": b"p0", "path": "ant/1.png"}, {"bytes": b"p1", "path": "p1.png"}]
    table = pa.table({"image": pa.array(cells, kind), "label": ["ant", None]})
    pq.write_table(table, tmp_path / "shard.parquet")
    return [str(tmp_path / name) for name in ("photos", "more/more.csv", "shard.parquet")]


def test_classes_are_the_union_and_rows_keep_their_order(places: list[str]) -> None:
    pool = Pool.scan(places)
    assert pool.classes == ("ant", "bee", "cow")
    assert told(pool) == {
        "photos/ant/1.png": ("ant", ""),
        "photos/ant/2.png": ("ant", ""),
        "photos/bee/1.png": ("bee", ""),
        "photos/loose.png": ("", "train"),
        "a.png": ("bee", "train"),
        "b.png": ("cow", "test"),
        "c.png": ("cow", "train"),
        "shard.parquet/ant/1.png": ("ant", ""),
        "shard.parquet/p1.png": ("", "train"),
    }
    assert [pool.source.read(row) for row in (0, 4, 7, 8)] == [b"ant/1.png", b"a", b"p0", b"p1"]
    assert pool.parts == tuple(places)
    assert pool.origin == " + ".join(places)


def test_groups_stay_apart(places: list[str], tmp_path: Path) -> None:
    text = "image,label,group\nphotos/ant/1.png,ant,g\nphotos/ant/2.png,ant,g\n"
    other = write(tmp_path / "other.csv", text.encode())
    pool = Pool.scan([places[1], other, places[2]])
    assert pool.group is not None
    group = pool.group.tolist()
    assert group[0] == group[2]  # g of more.csv
    assert group[3] == group[4]  # g of other.csv
    assert len(set(group)) == 5  # and each other image is a group of its own


def test_one_place_is_as_without_a_list(places: list[str]) -> None:
    pool = Pool.scan(places[:1])
    assert pool.origin == places[0]
    assert pool.parts == ()
    assert "ant/1.png" in told(pool)
    with pytest.raises(UserError, match="no DATA"):
        Pool.scan([])


def test_what_is_to_be_split_is_split_together(tmp_path: Path, paint: Paint) -> None:
    for place in ("one", "two"):
        for kind, name in enumerate(("ant", "bee")):
            paint(tmp_path / place / name, kind, 10)
    pool = assign(Pool.scan([tmp_path / "one", tmp_path / "two"]), seed=0)
    test = pool.split == "test"
    assert np.bincount(pool.label[test]).tolist() == [4, 4]  # a fifth of 20 each
    assert test[:20].any()
    assert test[20:].any()


def test_a_file_that_two_name_is_there_once_with_what_either_knows(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        write(tmp_path / f"photos/{name}.png", name.encode())
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    (tmp_path / "d-again.png").symlink_to(tmp_path / "photos/d.png")
    text = "image,label,split,group\nlink/a.png,ant,train,g\nphotos/b.png,bee,test,\n"
    table = write(tmp_path / "t.csv", (text + "d-again.png,ant,,g\n").encode())
    pool = Pool.scan([tmp_path / "photos", table], to_train=False)
    assert told(pool) == {
        "a.png": ("ant", "train"),
        "b.png": ("bee", "test"),
        "c.png": ("", "train"),
        "d.png": ("ant", ""),
    }
    assert pool.group is not None
    assert pool.group[0] == pool.group[3]
    assert [(one.name, one.reason) for one in pool.skipped if "same" in one.reason] == [
        ("t.csv/link/a.png", "the same file as in photos"),
        ("t.csv/photos/b.png", "the same file as in photos"),
        ("t.csv/d-again.png", "the same file as in photos"),
    ]
    assert [pool.source.read(row) for row in range(4)] == [b"a", b"b", b"c", b"d"]


def test_groups_that_share_a_file_are_one(tmp_path: Path) -> None:
    for name in "abcdef":
        write(tmp_path / f"{name}.png", name.encode())
    rows = "a.png,ant,g\nb.png,ant,g\nc.png,bee,h\nd.png,bee,\n"
    one = write(tmp_path / "one.csv", b"image,label,group\n" + rows.encode())
    rows = "a.png,ant,x\nc.png,bee,x\ne.png,bee,x\nf.png,ant,y\n"
    two = write(tmp_path / "two.csv", b"image,label,group\n" + rows.encode())
    for tables in ([one, two], [two, one]):
        pool = Pool.scan(tables)
        assert pool.group is not None
        of = {pool.source.name(row)[0]: int(pool.group[row]) for row in range(len(pool))}
        assert of["a"] == of["b"] == of["c"] == of["e"]  # g and h through x
        assert len({of[name] for name in "adf"}) == 3
    three = write(tmp_path / "three.csv", b"image,label,group\nd.png,bee,z\nf.png,ant,z\n")
    pool = Pool.scan([one, two, three])
    assert pool.group is not None
    assert len(set(pool.group.tolist())) == 2  # and d and f through z


def test_groups_that_become_one_over_two_splits_are_told(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / f"{name}.png", name.encode())
    rows = b"a.png,ant,train,g\nb.png,bee,train,\nc.png,ant,,g\n"
    one = write(tmp_path / "one.csv", b"image,label,split,group\n" + rows)
    two = write(tmp_path / "two.csv", b"image,label,split,group\nc.png,ant,,x\nd.png,ant,test,x\n")
    with pytest.raises(UserError, match=r"a\.png and d\.png have the same group, but one is in"):
        Pool.scan([one, two])


def test_a_file_with_two_labels_or_splits_is_told(tmp_path: Path) -> None:
    write(tmp_path / "photos/ant/a.png", b"a")
    write(tmp_path / "photos/bee/b.png", b"b")
    one = write(tmp_path / "one.csv", b"image,label\nphotos/ant/a.png,bee\n")
    with pytest.raises(UserError) as error:
        Pool.scan([tmp_path / "photos", one])
    assert "ant/a.png' is in" in str(error.value)
    assert "with two labels: ant and bee" in str(error.value)
    one.write_text("image,label,split\nphotos/ant/a.png,ant,train\n")
    two = write(tmp_path / "two.csv", b"image,label,split\nphotos/ant/a.png,ant,test\n")
    with pytest.raises(UserError, match="with two splits: train and test"):
        Pool.scan([one, two])


def test_copies_in_files_of_their_own_stay(tmp_path: Path) -> None:
    for place in ("one", "two"):
        for name in ("ant/a.png", "bee/b.png"):
            write(tmp_path / place / name, b"same")
    assert len(Pool.scan([tmp_path / "one", tmp_path / "two"])) == 4


def test_classes_that_differ_in_capitals_alone_are_told(tmp_path: Path) -> None:
    for name in ("one/Cat/a.png", "one/dog/b.png", "two/cat/c.png", "two/dog/d.png"):
        write(tmp_path / name, name.encode())
    pool = Pool.scan([tmp_path / "one", tmp_path / "two"])
    assert pool.classes == ("Cat", "cat", "dog")
    assert pool.notes == (
        f"two classes that differ in capitals alone: 'Cat' ({tmp_path}/one) and 'cat' "
        f"({tmp_path}/two); name them alike to join them",
    )


def test_the_same_place_twice_is_told(places: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is named twice"):
        Pool.scan([places[0], places[0] + "/"])
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "train.parquet").hardlink_to(places[2])
    (tmp_path / "again").symlink_to(tmp_path / "shards", target_is_directory=True)
    with pytest.raises(UserError, match=r"train\.parquet: is named twice"):
        Pool.scan([tmp_path / "again", tmp_path / "shards" / "train.parquet"])
    with pytest.raises(UserError, match="digits: is named twice"):
        Pool.scan(["digits", "digits"])


def test_what_one_lacks_another_may_have(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "loose", 0, 3)
    with pytest.raises(UserError, match="no labelled training image"):
        Pool.scan(tmp_path / "loose")
    pool = Pool.scan(["digits", tmp_path / "loose"])
    assert pool.lacks == ""
    assert not pool.mirror
    assert pool.counts()["train"]["unlabelled"] == 3


def test_joined_sources_know_their_bounds() -> None:
    one, two = Encoded(("a", "b"), (b"1", b"2")), Encoded(("c",), (b"3",))
    empty = Encoded((), ())
    joined = Joined((empty, one, empty, two), ("", "x/", "", ""))
    assert [joined.name(row) for row in range(len(joined))] == ["x/a", "x/b", "c"]
    assert [joined.read(row) for row in range(3)] == [b"1", b"2", b"3"]
    for row in (-1, 3):
        with pytest.raises(IndexError):
            joined.read(row)


def test_the_later_of_two_may_know_the_split(tmp_path: Path) -> None:
    for name in ("ant/a.png", "bee/b.png"):
        write(tmp_path / "photos" / name, name.encode())
    text = "image,label,split\nphotos/ant/a.png,ant,train\nphotos/bee/b.png,,\n"
    table = write(tmp_path / "t.csv", text.encode())
    pool = Pool.scan([tmp_path / "photos", table])
    assert told(pool) == {"ant/a.png": ("ant", "train"), "bee/b.png": ("bee", "")}


def test_labels_and_splits_may_lie_in_two_tables(tmp_path: Path) -> None:
    """In either order; a split alone needs no label, and a label no split."""
    for n in range(6):
        write(tmp_path / f"{n}.png", bytes([n]))
    labels = ["0.png,a,", "1.png,b,", "2.png,a,", "3.png,b,", "4.png,,", "5.png,,"]
    splits = [
        f"{n}.png,,{split}" for n, split in enumerate(["test", "test", "train", "", "val", ""])
    ]
    for name, rows in (("labels", labels), ("splits", splits)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["image,label,split", *rows]))
    for order in (("labels", "splits"), ("splits", "labels")):
        pool = Pool.scan([tmp_path / f"{name}.csv" for name in order])
        found = {pool.source.name(row): str(pool.split[row]) for row in range(len(pool))}
        assert found == {
            "0.png": "test",
            "1.png": "test",
            "2.png": "",  # whoever has no label trains, so that this says nothing
            "3.png": "",
            "4.png": "val",
            "5.png": "train",
        }
        assert (pool.label >= 0).sum() == 4


def test_one_place_with_several_labels_an_image_makes_all_so(tmp_path: Path) -> None:
    write(tmp_path / "photos/ant/a.png", b"a")
    for name in "bcd":
        write(tmp_path / f"{name}.png", name.encode())
    table = write(tmp_path / "t.csv", b"image,label\nb.png,ant|bee\nc.png,|\nd.png,\n")
    pool = Pool.scan([tmp_path / "photos", table], to_train=False)
    assert pool.task == "multi"
    assert [pool.label_text(row) for row in range(4)] == ["ant", "ant|bee", "|", ""]


def test_a_class_with_a_bar_beside_several_labels_is_told(tmp_path: Path) -> None:
    write(tmp_path / "photos/a|b/a.png", b"a")
    write(tmp_path / "more/c/c.png", b"c")
    write(tmp_path / "b.png", b"b")
    table = write(tmp_path / "t.csv", b"image,label\nb.png,ant|bee\n")
    with pytest.raises(UserError, match=r"photos has a class 'a\|b', but \| stands between"):
        Pool.scan([tmp_path / "photos", table], to_train=False)
    pool = Pool.scan([tmp_path / "photos", tmp_path / "more"], to_train=False)
    assert pool.classes == ("a|b", "c")


def test_classes_and_numbers_cannot_be_joined(tmp_path: Path) -> None:
    write(tmp_path / "photos/ant/a.png", b"a")
    write(tmp_path / "b.png", b"b")
    numbers = Pool.scan(
        write(tmp_path / "t.csv", b"image,label\nb.png,1.5\n"), task="regression", to_train=False
    )
    with pytest.raises(UserError, match="labels of different kinds cannot be joined: single"):
        join([Pool.scan(tmp_path / "photos", to_train=False), numbers])
