"""Labels written as tables and read from them."""

import csv
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewlabels.errors import UserError
from fewlabels.pool import label_tables
from fewlabels.pool.label_tables import Imported, export_table, import_store, import_table
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, read_labels

NAMES = ("a.png", 'b, "c".png', "ä\n/d.png", " e .png")
NAMED = {name: content_digest(name.encode()) for name in NAMES}
BOTH = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "other.sqlite") as opened:
        yield opened


def mark(name: str, label: str, who: str = "Ada", source: str = "page") -> Mark:
    return Mark(NAMED[name], label, who, source, name)


@pytest.fixture
def lived(store: LabelStore) -> LabelStore:
    """With labels of every kind, and others that were undone or taken back."""
    a, b, c, e = NAMES
    store.add([mark(a, "cat|dog"), mark(b, "comma, |2")])
    store.add([mark(c, "lost")])
    store.undo("Bob")
    store.undo("Cid")
    store.add([mark(a, "cat|dog"), mark(b, "comma, |2")])
    store.add([mark(e, "|", "Bob", "audit"), mark(b, "", "Bob")])
    store.add([mark(a, "wrong")])
    store.undo("Ada")
    return store


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def state(store: LabelStore) -> list[tuple[str, ...]]:
    """The current labels, with all that an export of them holds."""
    return [(e.image, e.label or "", e.digest, e.who, e.time, e.source) for e in store.current()]


@BOTH
def test_what_was_exported_imports_to_the_same_labels(
    lived: LabelStore,
    other: LabelStore,
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_tables, "ROWS", 2)
    file = tmp_path / f"out{suffix}"
    assert export_table(lived, file) == 3
    assert import_table(other, file, "Zoe") == Imported(new=3, changed=0, same=0, action=1)
    assert state(other) == state(lived)
    assert import_table(other, file, "Zoe") == Imported(new=0, changed=0, same=3)
    assert len(list(other.history())) == 3
    assert other.undo("Zoe") == 3  # an import is one action
    assert sorted(path.name for path in tmp_path.glob("*out*")) == [file.name]


@BOTH
def test_what_was_exported_imports_to_the_same_history(
    lived: LabelStore,
    other: LabelStore,
    tmp_path: Path,
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_tables, "ROWS", 2)
    file = tmp_path / f"out{suffix}"
    count = export_table(lived, file, history=True)
    assert count == len(list(lived.history()))
    assert import_table(other, file, "Zoe") == Imported(new=3, changed=0, same=0)
    assert list(other.history()) == list(lived.history())
    with pytest.raises(UserError, match=r"out\.\w+: .*other\.sqlite: has labels already"):
        import_table(other, file, "Zoe")


def test_the_columns_of_an_export(lived: LabelStore, tmp_path: Path) -> None:
    for history, columns in ((False, label_tables.CURRENT), (True, label_tables.HISTORY)):
        file = tmp_path / f"{history}.csv"
        export_table(lived, file, history)
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.reader(lines))
        assert rows[0] == list(columns)
        assert rows[0][:6] == ["image", "label", "sha256", "who", "when", "source"]
        assert rows[1][:4] == ["a.png", "cat|dog", NAMED["a.png"], "Ada"]


def test_a_plain_table_is_matched_by_name(store: LabelStore, tmp_path: Path) -> None:
    store.add([mark("a.png", "cat"), mark(" e .png", "owl")])
    text = '\ufeffImage,Label \r\n a.png,dog\r\n"b, ""c"".png",cat\r\n e .png,owl\r\n\r\n'
    text += 'a.png, dog\r\n"ä\n/d.png",\r\n'
    told = import_table(store, write(tmp_path / "t.csv", text), "Zoe", NAMED)
    assert told == Imported(new=1, changed=1, same=1, empty=1, action=3)
    assert store.labels() == {
        NAMED["a.png"]: "dog",
        NAMED['b, "c".png']: "cat",
        NAMED[" e .png"]: "owl",
    }
    last = list(store.current())[-1]
    assert (last.who, last.source, last.image) == ("Zoe", "import", 'b, "c".png')


def test_what_is_newer_here_stays(store: LabelStore, other: LabelStore, tmp_path: Path) -> None:
    """Of another store or its table; the label that is corrected in an export is not older."""
    old, new = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    said = ((old, "cat", new, "dog"), (new, "cat", old, "dog"), (old, "cat", old, "dog"))
    for name, (here, label, there, theirs) in zip(NAMES, said, strict=False):
        store.add([replace(mark(name, label), time=here)])
        other.add([replace(mark(name, theirs), time=there)])
    told = import_store(store, other.path)
    assert (told.new, told.changed, told.same, told.newer) == (0, 2, 0, 1)
    assert told.line() == "0 new labels, 2 changed, 0 as they were, 1 newer here and kept"
    assert list(store.labels().values()) == ["dog", "cat", "dog"]
    export_table(other, tmp_path / "t.csv")
    assert import_table(store, tmp_path / "t.csv", "Zoe").newer == 1
    plain = write(tmp_path / "plain.csv", "image,label\na.png,owl\n")
    assert import_table(store, plain, "Zoe", NAMED).changed == 1  # it is of now


@BOTH
def test_the_columns_of_a_plain_table_are_found_as_those_of_data(
    store: LabelStore, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"t{suffix}"
    columns = {"path": ["a.png"], "Category": ["cat"], "who": ["Bob"], "size": [3]}
    if suffix == ".csv":
        write(file, "path;Category;who;size\na.png;cat;Bob;3\n")
    else:
        pq.write_table(pa.table(columns), file)
    told = import_table(store, file, "Zoe", NAMED)
    assert told.notes == (
        "the column 'path' is read as image",
        "the column 'Category' is read as label",
        "not used: column 'size'",
    )
    assert [(e.image, e.label, e.who) for e in store.current()] == [("a.png", "cat", "Bob")]


def test_an_empty_label_beside_a_digest_is_one(store: LabelStore, tmp_path: Path) -> None:
    text = f"sha256,label,who\n{NAMED['a.png']},,Bob\n,dog,\n"
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(UserError, match="line 3: the digest '' is no SHA-256"):
        import_table(store, file, "Zoe")
    import_table(store, write(file, text.replace(",dog,\n", "")), "Zoe")
    assert store.labels() == {NAMED["a.png"]: ""}
    assert [event.who for event in store.current()] == ["Bob"]


def test_a_parquet_table_of_other_types(store: LabelStore, tmp_path: Path) -> None:
    names = list(NAMED)
    columns = {
        "sha256": [bytes.fromhex(NAMED[name]) for name in names],
        "label": [3.0, None, float("nan"), 0.5],
        "when": [datetime(2026, 1, 31, 12, tzinfo=UTC)] * 4,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    import_table(store, tmp_path / "t.parquet", "Zoe")
    assert list(store.labels().values()) == ["3", "", "", "0.5"]
    assert {event.time for event in store.current()} == {"2026-01-31T12:00:00.000Z"}
    several = {"image": ["a.png"], "label": [["cat", "dog"]]}
    pq.write_table(pa.table(several), tmp_path / "s.parquet")
    import_table(store, tmp_path / "s.parquet", "Zoe", NAMED)
    assert store.labels()[NAMED["a.png"]] == "cat|dog"


A, B = NAMED["a.png"], NAMED['b, "c".png']
HISTORY = ",".join(label_tables.HISTORY) + "\n"
TIME = "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has the columns none"),
        (
            f"image,class,sha256\na.png,cat,{A}\n",
            "unknown columns 'class'; a table of labels has image or",
        ),
        ("image,class,category\na.png,cat,x\n", "columns 'class' and 'category' may all be the"),
        ("image,clazz\na.png,cat\n", r"no column 'label' \(found: image, clazz\)"),
        (f"image,label,sha256,\na.png,cat,{A},1\n", "unknown columns ''"),
        ("label,sha256,label\n", "more than one column 'label'"),
        ("label,who\ncat,Bob\n", "has the columns label, who"),
        ("image,sha256\n", "has the columns image, sha256"),
        (
            "image,label\na.png,cat\nx.png,dog\n",
            "line 3: no image of the pool has the name 'x.png'",
        ),
        (f"sha256,label\n{A},cat\n{A[:-1]},dog\n", f"line 3: the digest '{A[:-1]}' is no SHA-256"),
        (f"sha256,label\n{A},cat\n{A.upper()},dog\n", "line 3 gives .* 'dog', line 2 gives the"),
        (f"sha256,label,when\n{A},cat,soon\n", "line 2: the time 'soon' is not ISO 8601"),
        (f'sha256,label\n{B},"c\nat"\n', r"line 3: the label 'c\\nat' is no line of text"),
        ("image,label\na.png,cat,1\n", "line 2 has 3 fields, the header has 2"),
        ('image,label\na.png,"cat\n', "not a CSV table"),
        ("event,label,sha256\n1,cat,2\n", "a history .* without image, who"),
        (
            HISTORY + f"a,cat,{A},Ada,{TIME},page,,1.5,1,label,\n",
            "line 2: event, action and target",
        ),
        (HISTORY + f"a,cat,{A},Ada,{TIME},page,,2,2,label,\n", "event 2 .* does not follow"),
        (HISTORY + f"a,cat,{A},Ada,{TIME},page,,1,1,erase,\n", "event 1 is of the kind 'erase'"),
        (HISTORY + f"a,cat,{A},Ada,,page,,1,1,label,\n", "event 1 has no time"),
        (HISTORY + f"a,,{A},Ada,{TIME},page,,1,1,undo,1\n", "no label event 1 to undo"),
        (
            HISTORY
            + f"a,cat,{A},Ada,{TIME},page,,1,1,label,\n"
            + f"a,,{A},Ada,{TIME},page,cat,2,2,undo,1\n"
            + f"a,,{A},Ada,{TIME},page,,3,3,undo,1\n",
            "event 1 is undone already",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    store: LabelStore, tmp_path: Path, text: str, said: str
) -> None:
    file = write(tmp_path / "t.csv", text)
    with pytest.raises(UserError, match=said) as error:
        import_table(store, file, "Zoe", NAMED)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    assert not list(store.history()), "an import is all or nothing"


def test_files_that_cannot_be_read_or_written(lived: LabelStore, tmp_path: Path) -> None:
    def told(do: Callable[..., object], file: Path, *more: object) -> str:
        with pytest.raises(UserError) as error:
            do(lived, file, *more)
        assert str(error.value).startswith(f"{file}: ")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "No such file" in told(import_table, tmp_path / "no.csv", "Zoe")
    assert "No such file" in told(import_table, tmp_path / "no.parquet", "Zoe")
    assert "a .csv or a .parquet file" in told(import_table, tmp_path / "no.xlsx", "Zoe")
    assert "a .csv or a .parquet file" in told(export_table, tmp_path / "no.xlsx")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("image,label\nä,1\n".encode("latin-1"))
    assert "not UTF-8" in told(import_table, latin, "Zoe", NAMED)
    shortened = tmp_path / "shortened.parquet"
    export_table(lived, shortened)
    shortened.write_bytes(shortened.read_bytes()[:-20])
    assert "as Parquet" in told(import_table, shortened, "Zoe")
    assert "exists" in told(export_table, latin)
    for suffix in (".csv", ".parquet"):
        assert "No such file" in told(export_table, tmp_path / "no" / f"x{suffix}")
    plain = write(tmp_path / "plain.csv", "image,label\na.png,cat\n")
    assert "no pool" in told(import_table, plain, "Zoe")


IMPORTS = """
import sys
from pathlib import Path
from fewlabels.pool.label_tables import import_table
from fewlabels.pool.store import LabelStore
store = LabelStore(Path(sys.argv[1]))
for n in range(10**6):
    import_table(store, Path(sys.argv[2 + n % 2]), "Ada")
    print(n, flush=True)
"""


def test_a_killed_import_is_all_or_nothing(tmp_path: Path) -> None:
    path, images = tmp_path / "labels.sqlite", [content_digest(bytes([n])) for n in range(250)]
    files = []
    for label in ("cat", "dog"):
        rows = "".join(f"{image},{label}\n" for image in images)
        files.append(write(tmp_path / f"{label}.csv", "sha256,label\n" + rows))
    child = subprocess.Popen(
        [sys.executable, "-c", IMPORTS, path, *files], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for _ in range(5):
        child.stdout.readline()
    threading.Event().wait(0.003)
    child.send_signal(signal.SIGKILL)
    said = max([4, *map(int, child.stdout.read().split("\n")[:-1])])
    child.wait()
    held = read_labels(path)
    assert held.keys() == set(images)
    assert len(set(held.values())) == 1
    with closing(LabelStore(path, read_only=True)) as store:
        done = len(list(store.history())) / len(images)
    assert done in (said + 1, said + 2)  # the last one may not have been acknowledged yet
