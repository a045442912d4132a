import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fewlabels.deploy import classifier as home
from fewlabels.deploy import predict
from fewlabels.deploy.classifier import Classifier, Prediction
from fewlabels.deploy.predict import find, write_csv, write_parquet
from fewlabels.errors import UserError
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.pixels.preprocess import Preprocess

CLASSES = ("crab", 'a "b", c', "żuk")


@pytest.fixture
def net() -> Classifier:
    torch.manual_seed(0)
    return Classifier(CnnSmall(3), CLASSES, Preprocess(8), "cpu")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "BATCH", 4)


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path, "PNG")


def rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def named(*paths: Path) -> list[Path]:
    """What is found, by name."""
    return [Path(name) for name, _ in find(paths).images]


def test_find(tmp_path: Path) -> None:
    names = ("a/1.png", "a/b/2.JPG", "a/b/c/3.webp", "a/10.tiff", "a-1/4.jpeg")
    draw(*(tmp_path / name for name in reversed(names)))
    for other in ("a/notes.txt", "a/b/table.csv", "a/png", "odd.dat"):
        (tmp_path / other).write_text("no image")
    inside = [tmp_path / name for name in ("a/1.png", "a/10.tiff", "a/b/2.JPG", "a/b/c/3.webp")]
    assert named(tmp_path / "a") == inside
    assert named(tmp_path) == [*inside, tmp_path / "a-1/4.jpeg"]
    # in the order in which they are named; a file counts whatever its name
    odd = tmp_path / "odd.dat"
    assert named(odd, tmp_path / "a-1", odd) == [odd, tmp_path / "a-1/4.jpeg", odd]
    assert named() == []


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path) -> None:
    inside = tmp_path / "in"
    draw(inside / "1.png")
    draw(tmp_path / "out" / "2.png")
    (inside / "shard.parquet").write_bytes(b"PAR1")
    (inside / "link").symlink_to(tmp_path / "out")
    found = find([inside])
    assert [Path(name).name for name, _ in found.images] == ["1.png"]
    reasons = {item.name: item.reason for item in found.skipped}
    assert reasons["link"] == "a link that leads out of the folder"
    assert reasons["shard.parquet"].startswith("not an image format that is read")


def test_find_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "here" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert named(Path("here")) == [Path("here/1.png")]


def test_nothing_to_find(net: Classifier, tmp_path: Path) -> None:
    draw(tmp_path / "1.png")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    for bad, reason in (("absent.png", "no such file or folder"), ("empty", "no images")):
        file = io.StringIO()
        with pytest.raises(UserError, match=reason) as caught:
            write_csv(net, find([tmp_path / "1.png", tmp_path / bad]).images, file)
        assert str(tmp_path / bad) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert file.getvalue() == ""  # found out before anything is written


def test_write_csv(net: Classifier, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:02}.png" for number in range(10)]
    draw(*paths)
    paths[3].write_bytes(b"junk")
    paths[8].write_bytes(b"")
    seen: list[Prediction] = []
    file = io.StringIO(newline="")
    write_csv(net, find([tmp_path]).images, file, seen.append)
    assert [bool(said.error) for said in seen] == [row in (3, 8) for row in range(10)]
    header, *body = rows(file.getvalue())
    columns = [f"p({name})" for name in CLASSES]
    assert header == ["image", "label", "confidence", "unknown", *columns, "error"]
    assert [row[0] for row in body] == [str(path) for path in paths]
    for row, path in zip(body, paths, strict=True):
        (said,) = net.predict(path)
        if path in (paths[3], paths[8]):
            assert row[1:-1] == [""] * 6
            assert row[-1] == said.error != ""
            continue
        assert row[3] == ""  # nothing was calibrated to tell what is unknown
        numbers = [float(row[2]), *map(float, row[4:-1])]
        assert numbers == pytest.approx([said.confidence, *said.probabilities], abs=2e-6)
        assert sum(numbers[1:]) == pytest.approx(1, abs=3e-6)
        assert row[1] == said.label == CLASSES[int(np.argmax(numbers[1:]))]
        assert row[-1] == ""
    assert len({row[2] for row in body}) == 9  # eight images, and "" for what has none


def test_rows_come_as_they_are_made(
    net: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Constant memory: a row is written before the next batch is read."""
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    draw(*paths)
    file = io.StringIO(newline="")
    written: list[int] = []
    read = net._read

    def reading(path: Path) -> NDArray[np.uint8]:
        written.append(file.getvalue().count("\r\n"))
        return read(path)

    monkeypatch.setattr(net, "_read", reading)
    write_csv(net, find(paths).images, file)
    assert written == [1] * 4 + [5] * 4 + [9]


def test_names_in_csv(net: Classifier, tmp_path: Path) -> None:
    odd = [tmp_path / name for name in ('comma, "quote".png', "line\nbreak.png", "żółw.png")]
    draw(*odd)
    out = tmp_path / "out.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        write_csv(net, find(odd).images, file)
    with out.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == [str(path) for path in odd]
    assert all(row["label"] in CLASSES for row in table)
    assert all(row[f"p({row['label']})"] == row["confidence"] for row in table)


def test_one_bad_image_alone(net: Classifier, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"junk")
    file = io.StringIO(newline="")
    write_csv(net, find([tmp_path / "bad.png"]).images, file)
    assert len(rows(file.getvalue())) == 2


def test_tables_are_read_as_pools(net: Classifier, tmp_path: Path) -> None:
    draw(tmp_path / "1.png", tmp_path / "2.png")
    (tmp_path / "table.csv").write_text("image,label\n2.png,a\n1.png,b\n")
    file = io.StringIO(newline="")
    write_csv(net, find([tmp_path / "table.csv"]).images, file)
    body = rows(file.getvalue())[1:]
    assert [row[0] for row in body] == ["2.png", "1.png"]
    assert body[0][1] == net.predict(tmp_path / "2.png")[0].label


def test_all_that_holds_images_is_read(tmp_path: Path) -> None:
    """Tables with and without labels, shards, a URL of one, a set by its name."""
    draw(tmp_path / "1.png", tmp_path / "deep/2.png")
    for name, text in (
        ("a.csv", "image\n1.png\ngone.png\n"),
        ("b.tsv", "class\tcategory\tfile\nx\ty\t1.png\n"),
    ):
        (tmp_path / name).write_text(text)
    pq.write_table(
        pa.table({"image": ["deep/2.png", "gone.png"], "class": ["x"] * 2, "target": [1] * 2}),
        tmp_path / "paths.parquet",
    )
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    data = (tmp_path / "1.png").read_bytes()
    cells = [{"bytes": data, "path": None}, {"bytes": None, "path": None}]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), tmp_path / "set/train.parquet")
    (tmp_path / "set/README.md").write_text("about")

    def contents(*data: str) -> list[tuple[str, bytes]]:
        found = find(data).images
        return [
            (name, where if isinstance(where, bytes) else Path(str(where)).read_bytes())
            if "gone" not in name
            else (name, b"")
            for name, where in found
        ]

    assert contents(f"{tmp_path}/a.csv") == [("1.png", data), ("gone.png", b"")]
    assert contents(f"{tmp_path}/b.tsv") == [("1.png", data)]
    other = (tmp_path / "deep/2.png").read_bytes()
    assert contents(f"{tmp_path}/paths.parquet") == [("deep/2.png", other), ("gone.png", b"")]
    rows_of_set = [("train.parquet#0", data), ("train.parquet#1", b"")]
    for form in ("", "file://"):
        assert contents(f"{form}{tmp_path}/set") == rows_of_set
        assert contents(f"{form}{tmp_path}/set/train.parquet") == rows_of_set
    assert len(contents("digits", f"{tmp_path}/deep")) == 1798
    (left,) = find([f"{tmp_path}/set"]).skipped
    assert left.name == "README.md"


def test_a_folder_called_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "digits/1.png")
    monkeypatch.chdir(tmp_path)
    assert [name for name, _ in find(["./digits"]).images] == ["digits/1.png"]
    assert [name for name, _ in find([Path("digits")]).images] == ["digits/1.png"]


def test_images_are_found_by_their_names(tmp_path: Path) -> None:
    draw(tmp_path / "deep/2.png")
    (tmp_path / "table.csv").write_text("image;label\n2;\n3;\n")
    found = list(find([tmp_path / "table.csv"]).images)
    assert found == [("2", tmp_path / "deep/2.png"), ("3", tmp_path / "3")]


def test_parquet_says_the_same(net: Classifier, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    draw(*paths)
    paths[3].write_bytes(b"junk")
    text, binary = io.StringIO(newline=""), io.BytesIO()
    write_csv(net, find([tmp_path]).images, text)
    write_parquet(net, find([tmp_path]).images, binary)
    header, *body = rows(text.getvalue())
    table = pq.read_table(binary)
    assert table.column_names == header
    for row, said in zip(body, table.to_pylist(), strict=True):
        for told, value in zip(row, said.values(), strict=True):
            if isinstance(value, float):
                assert float(told) == pytest.approx(value, abs=1e-6)
            else:
                assert (value or "") == told
    assert table["label"].null_count == 1
    assert table["unknown"].null_count == 5


def test_parquet_is_written_in_parts(
    net: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(*(tmp_path / f"{number}.png" for number in range(5)))
    monkeypatch.setattr(predict, "ROWS", 2)
    file = io.BytesIO()
    write_parquet(net, find([tmp_path]).images, file)
    assert pq.ParquetFile(file).num_row_groups == 3
    assert pq.read_table(file).num_rows == 5
