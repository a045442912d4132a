"""The label store: what people said of images, apart from the folder that holds them.

One SQLite file of events that are only ever added. An image is known by the SHA-256 of its encoded
bytes, so that it keeps its label where its file is moved or renamed. A label event says what an
image shows; an undo event names a label event that no longer counts. The label of an image is that
of its last label event that counts.

What is written at once is one action: its events share a number, that of the first of them, and are
undone together.
"""

import hashlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import Any

import platformdirs

from fewlabels.errors import UserError, one_line

VERSION = 1  # counts up when an older fewlabels could no longer read the file
APPLICATION = 0x664C_6162  # "fLab", in the header: whose database this is
PATIENCE = 30.0  # seconds that a writer waits for others; an import takes some

# Several processes may run it at once. The label in an undo event is what the image has after it,
# NULL where the store has none. INSERT OR REPLACE deletes past the trigger for deletions,
# so an insertion has its own.
SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS event (
    number INTEGER PRIMARY KEY,
    action INTEGER NOT NULL CHECK (action <= number),
    kind TEXT NOT NULL CHECK (kind IN ('label', 'undo')),
    target INTEGER CHECK ((kind = 'label') = (target IS NULL) AND ifnull(target < number, 1)),
    sha256 BLOB NOT NULL CHECK (typeof(sha256) = 'blob' AND length(sha256) = 32),
    label TEXT CHECK (kind != 'label' OR label IS NOT NULL),
    previous TEXT,
    who TEXT NOT NULL,
    time TEXT NOT NULL,
    source TEXT NOT NULL,
    image TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS event_of_image ON event (sha256);
CREATE UNIQUE INDEX IF NOT EXISTS event_of_target ON event (target) WHERE target IS NOT NULL;
CREATE TRIGGER IF NOT EXISTS only_added BEFORE INSERT ON event
WHEN NEW.number <= (SELECT max(number) FROM event)
BEGIN SELECT RAISE (ABORT, 'events are only added'); END;
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON event
BEGIN SELECT RAISE (ABORT, 'events are only added'); END;
CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON event
BEGIN SELECT RAISE (ABORT, 'events are only added'); END;
CREATE VIEW IF NOT EXISTS counting AS  -- label events that are not undone
SELECT * FROM event AS said WHERE kind = 'label'
AND NOT EXISTS (SELECT 1 FROM event WHERE target = said.number);
CREATE VIEW IF NOT EXISTS current AS  -- the label event of each image
SELECT * FROM event WHERE number IN (SELECT max(number) FROM counting GROUP BY sha256);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""
COLUMNS = (
    "number, action, kind, target, lower(hex(sha256)), label, previous, who, time, source, image"
)


class Conflict(UserError):
    """The image has another label by now than the writer believed."""


@dataclass(frozen=True)
class Mark:
    """A label to be written."""

    digest: str  # of the image: pool.source.content_digest
    label: str  # several are separated by `|`; "" = unlabelled, "|" = none of the classes
    who: str
    source: str  # where it comes from: page, import, audit, …
    image: str = ""  # what the image is called now; for people
    time: str = ""  # ISO 8601, UTC where it has no zone; "" = now
    # The label that the writer believes the store to have, None = none; `...` = whatever it has.
    believed: str | EllipsisType | None = ...


@dataclass(frozen=True, slots=True)
class Event:
    """What was written, once and for all."""

    number: int
    action: int
    kind: str  # label or undo
    target: int | None  # the label event that is undone
    digest: str
    label: str | None  # of the image after the event; None = the store has none
    previous: str | None  # of the image before it
    who: str
    time: str  # UTC, ISO 8601
    source: str
    image: str


def default_store(*origins: str) -> Path:
    """Where the labels of the pool of this origin lie, or of several joined, in whatever order; the
    file need not exist yet.

    In $FEWLABELS_LABELS, or `labels` in the user's data folder. UserError if that is inside the
    folder of images, which is the user's.
    """
    chosen = os.environ.get("FEWLABELS_LABELS")
    folder = Path(chosen) if chosen else Path(platformdirs.user_data_dir("fewlabels")) / "labels"
    folder = folder.expanduser().absolute()
    places = sorted(os.path.realpath(one) if os.path.isabs(one) else one for one in origins)
    for place in places:
        if os.path.isdir(place) and Path(os.path.realpath(folder)).is_relative_to(place):
            raise UserError(
                f"{folder}: lies among the images; set FEWLABELS_LABELS to a folder outside {place}"
            )
    whole = " + ".join(places)
    name = re.sub(r"[^\w.]+", "-", re.split(r"[/\\]", whole)[-1]).strip("-.")[:40]
    short = hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]
    return folder / f"{name or 'pool'}-{short}.sqlite"


def read_labels(path: Path) -> dict[str, str]:
    """{digest: label} of the store at `path`, as `LabelStore.labels`; {} where there is none."""
    if not path.exists():
        return {}
    with LabelStore(path, read_only=True) as store:
        return store.labels()


def has_events(path: Path) -> bool:
    """Whether anything was ever said in the store at `path`; an import that fails leaves a store in
    which nothing was."""
    if not path.exists():
        return False
    with LabelStore(path, read_only=True) as store:
        return any(store.history())


def others_with(paths: Iterable[Path], digests: Iterable[str]) -> list[tuple[Path, int]]:
    """Those of the stores that have labels of these images, and of how many, the most first."""
    here, found = set(digests), list[tuple[Path, int]]()
    for path in paths:
        with suppress(UserError):  # it is another pool's, and told where that is used
            found.append((path, len(here & read_labels(path).keys())))
    return sorted((one for one in found if one[1]), key=lambda one: -one[1])


class LabelStore:
    """The labels of one pool, in a file that several threads and processes may have open.

    What a method that writes has returned from is on the disk, and outlives a killed process. All
    methods raise UserError, in one line, where the file is damaged, cannot be written, or was being
    written by others for longer than PATIENCE seconds.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Opens the store. Makes it, and its folder, where there is none, unless `read_only`."""
        self.path = path
        self._turn = threading.Lock()  # one transaction at a time on the connection that writes
        self._writer: sqlite3.Connection | None = None
        with _told(path):
            if not read_only:
                self._writer = _connect_to_write(path)
            else:
                _connect_to_read(path).close()

    def close(self) -> None:
        """Nothing can be written after it."""
        with self._turn, _told(self.path):
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def labels(self) -> dict[str, str]:
        """{digest: label} of all images that the store has a label of; "" = unlabelled."""
        last: dict[bytes, str | None] = {}
        last.update(self._rows("SELECT sha256, label FROM event ORDER BY number"))
        return {digest.hex(): label for digest, label in last.items() if label is not None}

    def current(self) -> Iterator[Event]:
        """The label event of each image that has one, in the order in which they were written."""
        return (Event(*row) for row in self._rows(f"SELECT {COLUMNS} FROM current ORDER BY number"))

    def history(self) -> Iterator[Event]:
        """All events, the first one first."""
        return (Event(*row) for row in self._rows(f"SELECT {COLUMNS} FROM event ORDER BY number"))

    def add(self, marks: Sequence[Mark]) -> int:
        """Writes all of the labels or none; returns the number of their action.

        Raises Conflict where an image has not the label that its writer believed.
        """
        if not marks:
            raise ValueError("no labels to write")
        clean = [cleaned(mark) for mark in marks]
        with self._writing() as connection:
            action, now = _last(connection) + 1, _now()
            for number, mark in enumerate(clean, action):
                _write_label(connection, number, action, replace(mark, time=mark.time or now))
        return action

    def undo(self, who: str, action: int | None = None) -> int:
        """Takes back the labels of an action, or of the last one that counts; returns how many.

        An image gets the label that it would have without them. What is undone does not count, so
        undoing again goes further back. UserError where there is nothing to undo.
        """
        with self._writing() as connection:
            if action is None:
                last = "SELECT action FROM counting ORDER BY number DESC LIMIT 1"
                action = _value(connection, last)
            if action is None:
                raise UserError(f"{self.path}: nothing to undo")
            numbers = connection.execute(
                "SELECT number FROM event WHERE number >= ? AND action = ? AND kind = 'label'",
                (action, action),
            ).fetchall()
            if not numbers:
                raise UserError(f"{self.path}: action {action} is none that gave labels")
            undo, now = _last(connection) + 1, _now()
            for number, (target,) in enumerate(numbers, undo):
                _write_undo(connection, number, undo, target, who, now)
        return len(numbers)

    def restore(self, events: Iterable[Event]) -> int:
        """Writes the whole history of another store, or nothing; returns how many events it has.

        UserError unless this store is empty and the events can follow one another.
        """
        done = action = 0
        with self._writing() as connection:
            if _last(connection):
                raise UserError(
                    f"{self.path}: has labels already; a history is only imported into an empty "
                    "store, so import the current labels instead"
                )
            for event in events:
                if not event.time:  # to `add` it would mean now
                    raise UserError(f"event {event.number} has no time")
                if event.number != done + 1 or event.action not in (action or 1, event.number):
                    raise UserError(f"event {event.number} (action {event.action}) does not follow")
                done, action = event.number, event.action
                if event.kind == "label":
                    said = (event.digest, event.label or "", event.who, event.source, event.image)
                    _write_label(connection, done, action, cleaned(Mark(*said, event.time)))
                elif event.kind == "undo":
                    _write_undo(connection, done, action, event.target, event.who, _utc(event.time))
                else:
                    raise UserError(f"event {done} is of the kind {event.kind!r}, which is unknown")
        return done

    def _rows(self, query: str) -> Iterator[Any]:
        """The rows of a query in one state of the store, whatever is written meanwhile."""
        with _told(self.path), closing(_connect_to_read(self.path)) as connection:
            if not _is_blank(connection):  # its maker was killed before it had written a thing
                yield from connection.execute(query)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all that is written in it, or nothing."""
        with self._turn, _told(self.path):
            if self._writer is None:
                raise ValueError(f"{self.path} is not open for writing")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:  # some errors have ended it already
                    self._writer.execute("ROLLBACK")
                raise


def cleaned(mark: Mark) -> Mark:
    """The mark as it is written, UserError if it cannot be; " cat| dog |" becomes "cat|dog"."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", mark.digest):
        raise UserError(f"the digest {mark.digest[:80]!r} is no SHA-256 in hex (64 digits)")
    label = mark.label.strip()
    if any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in label):
        raise UserError(f"the label {label[:80]!r} is no line of text")
    if label:
        label = "|".join(name for part in label.split("|") if (name := part.strip())) or "|"
    who, source = _text(mark.who).strip(), _text(mark.source).strip()
    if not who or not source:
        raise UserError("a label needs both who gave it and a source (page, import, audit, …)")
    return replace(
        mark,
        digest=mark.digest.lower(),
        label=label,
        who=who,
        source=source,
        image=_text(mark.image),
        time=mark.time and _utc(mark.time),
    )


def _text(text: str) -> str:
    """Text that fits into UTF-8; what does not is escaped."""
    return text.encode(errors="backslashreplace").decode()


def _utc(time: str) -> str:
    try:
        moment = datetime.fromisoformat(time)
        return _iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise UserError(f"the time {time[:80]!r} is not ISO 8601 (2026-01-31T23:59:59Z)") from None


def _now() -> str:
    return _iso(datetime.now(UTC))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _connect_to_write(path: Path) -> sqlite3.Connection:
    """Makes the store where there is none. A database that is something else is not touched."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from None
    connection = _connect(path, "mode=rwc")
    try:
        _check(connection, path)
        _make(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return connection
    except BaseException:
        connection.close()
        raise


def _make(connection: sqlite3.Connection) -> None:
    """Fills a file that is blank, unless another process does so first.

    SQLite waits for others by itself, but not where the journal's mode is changed.
    """
    start = time.monotonic()
    while _is_blank(connection):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() - start > PATIENCE:
                raise
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            time.sleep(0.02)


def _connect_to_read(path: Path) -> sqlite3.Connection:
    connection = _connect(path, "mode=ro")
    try:
        _check(connection, path)
    except sqlite3.OperationalError:
        connection.close()
        # SQLite wants to write beside the file even to read it, unless it is told that no one can.
        if os.access(path.parent, os.W_OK) or path.with_name(path.name + "-wal").exists():
            raise
        connection = _connect(path, "mode=ro&immutable=1")
        _check(connection, path)
    return connection


def _connect(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{how}",
        uri=True,
        timeout=PATIENCE,
        isolation_level=None,  # transactions begin and end where we say it
        check_same_thread=False,
    )


def _is_blank(connection: sqlite3.Connection) -> bool:
    return not _value(connection, "PRAGMA user_version") and not _value(
        connection, "SELECT count(*) FROM sqlite_master"
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """UserError where the file is not a store that can be read."""
    if _is_blank(connection):
        return
    if _value(connection, "PRAGMA application_id") != APPLICATION:
        raise UserError(f"{path}: is another program's database, no label store; name another file")
    version = _value(connection, "PRAGMA user_version")
    if version > VERSION:
        raise UserError(
            f"{path}: was written by a newer fewlabels (version {version} of the store, this one "
            f"reads {VERSION}); upgrade fewlabels"
        )


def _value(connection: sqlite3.Connection, query: str, *values: object) -> Any:
    """The first column of the first row; None where there is no row."""
    row = connection.execute(query, values).fetchone()
    return row and row[0]


def _last(connection: sqlite3.Connection) -> int:
    return int(_value(connection, "SELECT max(number) FROM event") or 0)


def _insert(connection: sqlite3.Connection, *values: object) -> None:
    connection.execute(f"INSERT INTO event VALUES ({', '.join('?' * len(values))})", values)


def _write_label(connection: sqlite3.Connection, number: int, action: int, mark: Mark) -> None:
    digest = bytes.fromhex(mark.digest)
    query = "SELECT label, who, time FROM event WHERE sha256 = ? ORDER BY number DESC LIMIT 1"
    previous, by, time = connection.execute(query, (digest,)).fetchone() or (None, "", "")
    if mark.believed is not ... and mark.believed != previous:
        shown = "no label" if previous is None else f"the label {previous!r}"
        raise Conflict(
            f"{mark.image or mark.digest}: has {shown} since {by} changed it at {time}, "
            f"not {mark.believed!r}; look again before you label it"
        )
    said = (mark.who, mark.time, mark.source, mark.image)
    _insert(connection, number, action, "label", None, digest, mark.label, previous, *said)


def _write_undo(
    connection: sqlite3.Connection,
    number: int,
    action: int,
    target: int | None,
    who: str,
    time: str,
) -> None:
    """Undoes the label event `target`. UserError where it is undone already.

    What holds afterwards is the last label event of the image that counts then.
    """
    query = "SELECT sha256, source, image FROM event WHERE number = ? AND kind = 'label'"
    said = connection.execute(query, (target,)).fetchone()
    if target is None or said is None:
        raise UserError(f"event {number}: there is no label event {target} to undo")
    digest, source, image = said
    if _value(connection, "SELECT number FROM event WHERE target = ?", target) is not None:
        raise UserError(f"event {target} is undone already")
    query = "SELECT label FROM event WHERE sha256 = ? ORDER BY number DESC LIMIT 1"
    previous = _value(connection, query, digest)
    query = """SELECT label FROM counting WHERE sha256 = ? AND number != ?
    ORDER BY number DESC LIMIT 1"""
    after = _value(connection, query, digest, target)
    _insert(
        connection,
        number,
        action,
        "undo",
        target,
        digest,
        after,
        previous,
        who,
        time,
        source,
        image,
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite says, in a line about this file."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # ours
    except sqlite3.Error as error:
        raise UserError(f"{path}: {_reason(error)}") from error


def _reason(error: sqlite3.Error) -> str:
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # above it stands what it happened in
        case sqlite3.SQLITE_NOTADB:
            return "is no label store; name another file, or move it away"
        case sqlite3.SQLITE_CORRUPT:
            return f"is damaged ({one_line(error)}); move it away and import what was exported last"
        case sqlite3.SQLITE_FULL:
            return "nothing was written, the disk is full; make room and do it again"
        case sqlite3.SQLITE_BUSY:
            return f"others were writing to it for {PATIENCE:.0f} s; do it again"
        case sqlite3.SQLITE_READONLY:
            return "cannot be written (read-only); set FEWLABELS_LABELS to a folder that can be"
        case _:
            return f"cannot be read or written ({one_line(error)})"
