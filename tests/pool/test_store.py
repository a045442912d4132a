"""The label store: events, undo, several writers, and what happens to it from outside."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from fewlabels.errors import UserError
from fewlabels.pool import store as module
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import Conflict, LabelStore, Mark, default_store, read_labels

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits another process: Linux only")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels" / "photos.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[LabelStore]:
    with LabelStore(path) as opened:
        yield opened


def digest(name: object) -> str:
    return content_digest(str(name).encode())


def mark(name: object, label: str, who: str = "Ada", **more: object) -> Mark:
    return Mark(digest(name), label, who, "page", str(name), **more)  # type: ignore[arg-type]


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def test_an_event_says_all_there_is_to_say(store: LabelStore) -> None:
    first = Mark(digest("a").upper(), " cat| dog |", "Ada", "page", "a/ä\udcff.png")
    assert store.add([first]) == 1
    late = Mark(digest("a"), "", "Bob", "import", "b.png", time="2026-01-31T12:00:00.5+02:00")
    assert store.add([late, mark("c", "|")]) == 2
    one, two, three = store.history()
    assert (one.number, one.action, one.kind, one.target) == (1, 1, "label", None)
    assert (one.digest, one.label, one.previous) == (digest("a"), "cat|dog", None)
    assert (one.who, one.source, one.image) == ("Ada", "page", "a/ä\\udcff.png")
    assert one.time.endswith("Z")
    assert (two.number, two.action, two.label, two.previous) == (2, 2, "", "cat|dog")
    assert (two.who, two.time) == ("Bob", "2026-01-31T10:00:00.500Z")
    assert (three.number, three.action, three.label) == (3, 2, "|")
    assert store.labels() == {digest("a"): "", digest("c"): "|"}
    assert list(store.current()) == [two, three]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Mark("xyz", "cat", "Ada", "page"), "'xyz' is no SHA-256 in hex"),
        (Mark(digest("a"), "cat\ndog", "Ada", "page"), "is no line of text"),
        (Mark(digest("a"), "c\udcffat", "Ada", "page"), "is no line of text"),
        (Mark(digest("a"), "cat", " ", "page"), "who gave it"),
        (Mark(digest("a"), "cat", "Ada", ""), "a source"),
        (Mark(digest("a"), "cat", "Ada", "page", time="yesterday"), "not ISO 8601"),
    ],
)
def test_one_bad_label_and_none_is_written(store: LabelStore, bad: Mark, said: str) -> None:
    with pytest.raises(UserError, match=said):
        store.add([mark("b", "dog"), bad])
    assert store.labels() == {}


def test_undo_goes_back_and_back(store: LabelStore) -> None:
    for label in ("cat", "dog", "owl"):
        store.add([mark("a", label)])
    seen = []
    for _ in range(3):
        assert store.undo("Bob") == 1
        seen.append(store.labels().get(digest("a")))
    assert seen == ["dog", "cat", None]
    last = list(store.history())[-1]
    assert (last.kind, last.target, last.label, last.previous) == ("undo", 1, None, "cat")
    assert not list(store.current())
    with pytest.raises(UserError, match="nothing to undo"):
        store.undo("Bob")
    store.add([mark("a", "bee")])
    assert [event.label for event in store.current()] == ["bee"]


def test_undo_takes_back_an_action_and_leaves_what_others_did(store: LabelStore) -> None:
    mine = store.add([mark("a", "cat"), mark("b", "cat"), mark("a", "hen")])
    store.add([mark("a", "dog", "Bob")])
    assert store.undo("Ada", mine) == 3
    assert store.labels() == {digest("a"): "dog"}
    with pytest.raises(UserError, match="undone already"):
        store.undo("Ada", mine)
    with pytest.raises(UserError, match="none that gave labels"):
        store.undo("Ada", 5)  # an undo
    store.undo("Bob")
    assert store.labels() == {}


def test_a_label_is_only_changed_from_what_its_writer_believed(store: LabelStore) -> None:
    store.add([mark("a", "cat", believed=None)])
    store.add([mark("a", "dog", believed="cat")])
    for believed in (None, "cat", ""):
        with pytest.raises(
            Conflict, match=r"^a: has the label 'dog' since Ada changed it at 20"
        ) as e:
            store.add([mark("b", "owl"), mark("a", "cat", "Bob", believed=believed)])
        assert "\n" not in str(e.value)
    assert store.labels() == {digest("a"): "dog"}
    store.undo("Ada")
    store.undo("Ada")
    store.add([mark("a", "cat", believed=None)])


class Model:
    """What a store should hold: actions in order, and which of them count."""

    def __init__(self) -> None:
        self.actions: list[list[tuple[str, str]]] = []
        self.undone: list[int] = []

    def labels(self) -> dict[str, str]:
        held: dict[str, str] = {}
        for number, pairs in enumerate(self.actions):
            if number not in self.undone:
                held.update(pairs)
        return held

    def add(self, pairs: list[tuple[str, str]]) -> None:
        self.actions.append(pairs)

    def counting(self) -> list[int]:
        return [number for number in range(len(self.actions)) if number not in self.undone]


@pytest.mark.parametrize("seed", range(20))
def test_random_events_come_to_what_a_dictionary_says(path: Path, seed: int) -> None:
    draw, model, numbers = random.Random(seed), Model(), []
    names = {digest(name): name for name in "abcde"}
    store = LabelStore(path)
    for _ in range(30):
        kind = draw.choice(["add", "add", "undo", "undo", "undo one", "reopen"])
        if kind == "reopen":
            store.close()
            store = LabelStore(path)
        elif kind == "add":
            pairs = [
                (draw.choice(list(names)), draw.choice(["", "x", "y", "x|y"]))
                for _ in range(draw.randint(1, 3))
            ]
            numbers.append(store.add([mark(names[key], label) for key, label in pairs]))
            model.add(pairs)
        else:
            possible = model.counting()
            if not possible:
                with pytest.raises(UserError, match="nothing to undo"):
                    store.undo("Ada")
                continue
            chosen = possible[-1] if kind == "undo" else draw.choice(possible)
            given = None if kind == "undo" else numbers[chosen]
            assert store.undo("Ada", given) == len(model.actions[chosen])
            model.undone.append(chosen)
        assert store.labels() == model.labels()
        assert {event.digest: event.label for event in store.current()} == model.labels()
    held: dict[str, str | None] = {}
    for number, event in enumerate(store.history(), 1):
        assert event.number == number
        assert event.previous == held.get(event.digest)
        held[event.digest] = event.label
    store.close()
    assert read_labels(path) == model.labels()
    assert integrity(path) == "ok"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET label = 'x'",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT 1, 1, kind, target, sha256, 'x', previous, who, time, "
        "source, image FROM event WHERE number = 1",
    ],
)
def test_nothing_can_be_changed_or_deleted(path: Path, statement: str) -> None:
    with LabelStore(path) as store:
        store.add([mark("a", "cat"), mark("b", "dog")])
        with (
            closing(sqlite3.connect(path)) as other,
            pytest.raises(sqlite3.IntegrityError, match="events are only added"),
        ):
            other.execute(statement)
        assert len(store.labels()) == 2


def test_what_is_written_is_on_the_disk(store: LabelStore) -> None:
    writer = store._writer
    assert writer is not None
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_closed_store_and_one_to_read_are_not_written(path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        LabelStore(path, read_only=True)
    assert not path.parent.exists()
    assert read_labels(path) == {}
    store = LabelStore(path)
    store.close()
    reader = LabelStore(path, read_only=True)
    assert reader.labels() == {}
    for closed in (store, reader):
        with pytest.raises(ValueError, match="not open for writing"):
            closed.add([mark("a", "cat")])


def test_threads_write_at_once(store: LabelStore) -> None:
    def work(own: int) -> None:
        for number in range(25):
            store.add([mark((own, number), "cat")])

    threads = [threading.Thread(target=work, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.labels()) == 100
    assert [event.number for event in store.history()] == list(range(1, 101))


def test_a_reader_sees_one_state_while_others_write(store: LabelStore) -> None:
    store.add([mark(number, "cat") for number in range(2000)])
    events = store.history()
    first = next(events)
    store.add([mark("later", "cat")])
    assert 1 + sum(1 for _ in events) == 2000
    assert first.number == 1


def test_who_waits_too_long_is_told(
    store: LabelStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            LabelStore(path) as late,
            pytest.raises(UserError, match="others were writing to it for 0 s"),
        ):
            late.add([mark("a", "cat")])
        assert store.labels() == {}


# what is wrong with the file


def test_what_is_no_store_is_told_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"image,label\n" * 500)
    other = path.with_name("other.sqlite")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE song (name TEXT)")
    for file, said in ((path, "is no label store"), (other, "another program's database")):
        before = file.read_bytes()
        for read_only in (False, True):
            with pytest.raises(UserError, match=said) as error:
                LabelStore(file, read_only=read_only)
            assert str(error.value).startswith(str(file))
            assert "\n" not in str(error.value)
        assert file.read_bytes() == before


def test_a_newer_store_is_told(path: Path) -> None:
    LabelStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {module.VERSION + 1}")
    with pytest.raises(UserError, match=r"newer fewlabels \(version 2 of the store"):
        LabelStore(path)


@pytest.mark.parametrize("damage", ["shortened", "overwritten"])
def test_a_damaged_store_is_told(path: Path, damage: str) -> None:
    with LabelStore(path) as store:
        store.add([mark(number, "cat") for number in range(500)])
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + (b"" if damage == "shortened" else b"\xff" * half))
    with (
        pytest.raises(UserError, match=r"photos\.sqlite: is damaged") as error,
        LabelStore(path) as s,
    ):
        s.labels()
    assert "\n" not in str(error.value)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """Its maker may have been killed at once."""
    path.parent.mkdir()
    path.touch()
    assert read_labels(path) == {}
    with LabelStore(path) as store:
        store.add([mark("a", "cat")])
    assert read_labels(path) == {digest("a"): "cat"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be made"):
        LabelStore(tmp_path / "file" / "labels.sqlite")


# where it lies


def test_a_store_lies_apart_from_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, other = tmp_path / "a" / "My photos!", tmp_path / "b" / "My photos!"
    data.mkdir(parents=True)
    monkeypatch.setenv("FEWLABELS_LABELS", str(tmp_path / "labels"))
    path = default_store(str(data))
    assert path.parent == tmp_path / "labels"
    assert path.name.startswith("My-photos-")
    assert path.suffix == ".sqlite"
    assert default_store(str(other)) != path
    (tmp_path / "link").symlink_to(data)
    assert default_store(str(tmp_path / "link")) == path
    assert default_store("digits").name.startswith("digits-")
    assert default_store("hf:???").name.startswith("hf-")
    monkeypatch.setenv("FEWLABELS_LABELS", str(tmp_path / "link" / "labels"))
    with pytest.raises(UserError, match="lies among the images"):
        default_store(str(data))
    monkeypatch.delenv("FEWLABELS_LABELS")
    monkeypatch.setattr(module.platformdirs, "user_data_dir", lambda name: f"/home/me/{name}")
    assert default_store("hf:me/birds").parent == Path("/home/me/fewlabels/labels")
    assert default_store("hf:me/birds").name.startswith("birds-")


# other processes

WRITES = """
import sys
from pathlib import Path
from fewlabels.errors import UserError
from fewlabels.pool.source import content_digest
from fewlabels.pool.store import LabelStore, Mark, Conflict
def mark(name, label="cat", **more):
    return Mark(content_digest(str(name).encode()), label, "Ada", "page", str(name), **more)
sys.stdin.readline()  # until all have started
store = LabelStore(Path(sys.argv[1]))
"""
ONE_BY_ONE = "for n in range(10**6): store.add([mark(n)]); print(n, flush=True)"
AT_ONCE = (
    "for n in range(10**6): store.add([mark((n, k)) for k in range(300)]); print(n, flush=True)"
)


def process(path: Path, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITES + code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


@pytest.mark.parametrize(("code", "size"), [(ONE_BY_ONE, 1), (AT_ONCE, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_outlives_a_kill(path: Path, code: str, size: int, seed: int) -> None:
    draw, said = random.Random(seed), -1
    child = process(path, code)
    assert child.stdout is not None
    start(child)
    for _ in range(draw.randint(1, 30)):
        said = int(child.stdout.readline())
    threading.Event().wait(draw.uniform(0, 0.01))  # anywhere in the next writes
    child.send_signal(signal.SIGKILL)
    said = max([said, *map(int, child.stdout.read().split("\n")[:-1])])
    child.wait()
    held = read_labels(path)  # as `train` would, before anyone writes
    whole = {str(n) if size == 1 else str((n, k)) for n in range(said + 1) for k in range(size)}
    assert {digest(name) for name in whole} <= held.keys()
    assert len(held) % size == 0
    assert len(held) - len(whole) <= size  # at most the one that was not acknowledged yet
    assert integrity(path) == "ok"
    with LabelStore(path) as store:
        store.add([mark("after", "dog")])
        assert len(store.labels()) == len(held) + 1


def test_processes_make_and_write_a_store_at_once_and_lose_nothing(path: Path) -> None:
    """Each image is labelled first by one of them, and the others are told."""
    code = """
for n in range(40):
    store.add([mark((sys.argv[2], n))])
    try:
        store.add([mark(n, sys.argv[2], believed=None)]); print(n)
    except Conflict as error:
        assert "has the label" in str(error)
"""
    children = [process(path, code.replace("sys.argv[2]", repr(str(own)))) for own in range(4)]
    for child in children:
        start(child)
    won = []
    for own, child in enumerate(children):
        shown, _ = child.communicate()
        assert child.returncode == 0
        won += [(int(n), str(own)) for n in shown.split()]
    held = read_labels(path)
    assert len(held) == 4 * 40 + 40
    assert sorted(n for n, _ in won) == list(range(40))
    assert all(held[digest(n)] == own for n, own in won)
    assert integrity(path) == "ok"


def test_a_store_that_another_process_is_making_is_waited_for(path: Path) -> None:
    """SQLite does not wait by itself where the journal's mode is changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.close).start()
    with LabelStore(path) as store:
        store.add([mark("a", "cat")])
    assert read_labels(path) == {digest("a"): "cat"}


@linux
def test_a_disk_without_room_loses_nothing(path: Path) -> None:
    code = """
import resource
for n in range(10**6):
    if n == 20:
        room = sum(file.stat().st_size for file in Path(sys.argv[1]).parent.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        store.add([mark(n), mark(-n)])
    except UserError as error:
        print(error)
        break
    print(n)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.add([mark("room again")])
"""
    child = process(path, code)
    shown, _ = child.communicate("\n")
    assert child.returncode == 0
    *said, line = shown.splitlines()
    assert line.startswith(f"{path}: ")
    assert len(said) >= 20
    names = {str(sign * int(n)) for n in said for sign in (1, -1)} | {"room again"}
    assert read_labels(path).keys() == {digest(name) for name in names}
    assert integrity(path) == "ok"


@pytest.mark.parametrize("small_disk", ["4m"], indirect=True)
def test_a_full_disk_is_told(small_disk: Path) -> None:
    path, filler = small_disk / "labels.sqlite", small_disk / "filler"
    with LabelStore(path) as store:
        store.add([mark("a", "cat")])
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass
        with pytest.raises(UserError, match="the disk is full"):
            store.add([mark(number, "dog") for number in range(1000)])
        assert len(store.labels()) == 1
        with pytest.raises(UserError, match=str(small_disk)):
            LabelStore(small_disk / "new" / "labels.sqlite")
        filler.unlink()
        store.add([mark("b", "dog")])
    assert len(read_labels(path)) == 2


def test_a_store_on_a_read_only_disk_can_be_read(small_disk: Path) -> None:
    path = small_disk / "labels.sqlite"
    with LabelStore(path) as store:
        store.add([mark("a", "cat")])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert read_labels(path) == {digest("a"): "cat"}
    for attempt in (path, small_disk / "new.sqlite"):
        with pytest.raises(UserError, match=str(attempt)) as error, LabelStore(attempt) as store:
            store.add([mark("b", "dog")])
        assert "\n" not in str(error.value)
