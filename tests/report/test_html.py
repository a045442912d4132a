"""The page as a reader gets it: what it says, what it must never do, how little it needs."""

import io
import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import accuracy
from fewlabels.report import html, plots

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "img", "br"}


def png(side: int = 8, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def log(folder: Path, stages: tuple[str, ...] = ("labels only", "fixmatch")) -> None:
    rows = [
        {
            "stage": stage,
            "step": 10 * i,
            "progress": i / 5,
            "seconds": 2.0 * i,
            "loss": 2.0 / i,
            "lr": 0.03,
            "confident": 0.1 * i,
            "val_accuracy": 0.5 + 0.08 * i,
            "val_n": 50,
        }
        for stage in stages
        for i in range(1, 6)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(folder: Path, classes: list[str], split: str = "test") -> dict[str, Any]:
    """A finished run: 10 images a class, one in ten wrong, the baseline's first three in ten."""
    k = len(classes)
    config = {"data": "/photos/birds", "method": "auto", "model": "cnn_small", "seed": 0}
    config |= {"training": {"batch_size": 32}, "command": "fewlabels train /photos/birds --seed 0"}
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "classes.json").write_text(json.dumps(classes))
    log(folder)
    label = np.repeat(np.arange(k), 10)
    within = np.tile(np.arange(10), k)
    predicted = np.where(within < 1, (label + 1) % k, label)
    baseline = np.where(within < 3, (label + 1) % k, label)
    columns: dict[str, Any] = {
        "name": [f"{i}.png" for i in range(10 * k)],
        "split": [split] * 10 * k,
    }
    columns |= {"label": label, "predicted": predicted, "baseline": baseline}
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    pictures = [
        {"kind": kind, "name": f"a/{kind}{EVIL}.png", "predicted": 0, "confidence": 0.987}
        | {"label": {"right": 0, "wrong": 1, "pseudo": -1}[kind], "picture": png()}
        for kind in ("right", "wrong", "pseudo")
    ]
    pq.write_table(pa.Table.from_pylist(pictures), folder / "gallery.parquet")
    ours, theirs = accuracy(predicted == label), accuracy(baseline == label)
    result = {
        "data": "/photos/birds",
        "method": "fixmatch",
        "model": "cnn_small",
        "seed": 0,
        "steps": 50,
        "seconds": 71.0,
        "labels": 2 * k,
        "unlabelled": 40_000,
        "img_size": 32,
        "estimate": split,
        split: ours,
        "baseline": {"method": "supervised", "steps": 50, "seconds": 10.0, split: theirs},
        "difference": {split: {"difference": 0.2, "interval": [0.12, 0.29], "n": 10 * k}},
        "choice": {
            "how": "auto",
            "candidates": [
                {"method": "supervised", "val": theirs},
                {"method": "fixmatch", "val": ours},
            ],
            "why": "FixMatch was best on validation.",
        },
        "verdict": f"The unlabelled images helped. {EVIL}",
        "skipped": [{"name": f"broken{EVIL}.jpg", "reason": "cannot be decoded"}],
    }
    (folder / "result.json").write_text(json.dumps(result))
    return result


def page(folder: Path) -> str:
    path = html.write(folder)
    assert path == folder / "report.html"
    assert not list(folder.glob(".report-*"))  # nothing half-written is left
    text = path.read_text(encoding="utf-8")
    check_form(text)
    return text


class Form(HTMLParser):
    """Every tag is closed, in order; ids are unique, and links within the page have one; nothing
    is loaded; no script; every plot and picture says in words what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.still_open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice: {attrs}"
        for key, value in attrs:
            assert not key.startswith("on")
            if key == "id":
                assert value
                self.ids.append(value)
            elif key == "href" and tag == "a" and value and value.startswith("#"):
                self.links.append(value[1:])
            elif key == "href" and tag == "a":
                assert value
                assert re.fullmatch(r"rounds/\d+/report\.html", value)
            elif key in ("src", "href"):
                assert value
                assert value.startswith("data:")
            else:
                assert key not in ("srcset", "poster", "background", "action", "xlink:href")
        if tag == "svg" and "viewbox" not in given:
            assert given["role"] == "img"
            assert given["aria-label"]
        if tag == "img":
            assert given["alt"]
        if tag not in VOID:
            self.still_open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"line", "circle", "polyline", "polygon"}

    def handle_endtag(self, tag: str) -> None:
        assert self.still_open.pop() == tag


def check_form(text: str) -> None:
    """The page is well-formed, alone in the world, and has words for what it shows."""
    form = Form()
    form.feed(text)
    form.close()
    assert not form.still_open
    assert len(set(form.ids)) == len(form.ids)
    assert set(form.links) <= set(form.ids)
    for style in re.findall(r"<style>(.*?)</style>|style=\"([^\"]*)\"", text, re.S):
        assert not re.search(r"url\(|@import|image-set|//", "".join(style))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text)


def words(text: str) -> str:
    """What is read: without tags, and with single spaces."""
    read = re.sub(r"<[^>]*>", " ", text.split("</style>")[1])
    return " ".join(unescape(read).split())


def test_a_finished_run_is_told(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork", "ibis"])
    text = page(tmp_path)
    read = words(text)
    assert "Accuracy on 30 test images 90.0 %" in read
    assert "95 % interval 74.4 to 96.5" in read
    assert "Labels only 70.0 %" in read
    assert "+20.0 95 % interval +12.0 to +29.0" in read
    assert "6 of them are right only with fixmatch, 0 only with labels only." in read
    assert "fixmatch less labels only" in read
    assert "40,000" in read
    assert "1 min 11 s" in read
    assert "FixMatch was best on validation." in read
    assert "heron" in read
    assert "stork (1)" in read  # a heron's most frequent error
    assert "training.batch_size 32" in read
    assert "fewlabels train /photos/birds --seed 0" in read
    assert "given: stork" in read
    assert "98.7 %" in read
    assert text.count('src="data:image/png;base64,') == 3
    assert len(text) < 100_000


@pytest.mark.parametrize(
    "bad",
    [
        "<p><b></p></b>",
        "<p>",
        '<p id="a"></p><p id="a"></p>',
        '<a href="#b"></a>',
        '<img src="//x.org/a.png" alt="a">',
        '<img src="data:," alt="">',
        "<script></script>",
        '<p onclick="x"></p>',
        "<svg></svg>",
        "<style>p { background: url(//x.org) }</style>",
        '<a href="https://x.org">x</a>',
    ],
)
def test_the_check_itself_refuses(bad: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check_form(bad)


def test_names_are_escaped(tmp_path: Path) -> None:
    make(tmp_path, [EVIL, 'a"b', "c&d"])
    text = page(tmp_path)
    assert EVIL not in text
    assert "&lt;script&gt;" in text
    assert "c&amp;d" in text


def test_without_a_test_split_the_estimate_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"], split="val")
    read = words(page(tmp_path))
    assert "Validation estimate, from 20 validation images 90.0 %" in read
    assert "no test images" in read
    assert "also served to choose" in read


def test_an_unfinished_run_shows_what_is_known(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    for name in ("result.json", "predictions.parquet", "gallery.parquet"):
        (tmp_path / name).unlink()
    read = words(page(tmp_path))
    assert "has not finished" in read
    assert "so far, on 50 validation images 90.0 %" in read
    assert "Accuracy on the validation images" in read


def test_settings_alone_are_enough(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: digits\n")
    assert "Its log is still empty" in words(page(tmp_path))


def test_a_labels_only_run_has_no_difference(tmp_path: Path) -> None:
    result = make(tmp_path, ["heron", "stork"])
    for key in ("baseline", "difference", "choice"):
        del result[key]
    (tmp_path / "result.json").write_text(json.dumps(result | {"method": "supervised"}))
    read = words(page(tmp_path))
    assert "90.0 %" in read
    assert "Labels only" not in read
    assert "was best on validation" not in read


def test_a_log_cut_off_by_a_kill_is_read(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "fixmatch", "loss": NaN, "seconds": 11, "step": 60}\n{"stage": "fi')
    assert "fixmatch ends at 0.4" in page(tmp_path)


@pytest.mark.parametrize("k", [2, 20, 21, 50])
def test_any_number_of_classes(tmp_path: Path, k: int) -> None:
    make(tmp_path, [f"bird {i}" for i in range(k)])
    text = page(tmp_path)
    assert ("Confusion matrix" in text) == (k <= 20)
    assert ("Most often confused" in text) == (k > 20)
    assert all(f"bird {i}<" in text for i in range(k))


def test_heavy_pictures_become_light(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    rows = [
        {"kind": kind, "name": str(i), "label": 0, "predicted": 0, "confidence": 0.5}
        | {"picture": png(224, seed=i)}  # noise: the worst case, 150 kB each
        for i, kind in enumerate(["right", "wrong", "pseudo"] * 4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "gallery.parquet")
    text = page(tmp_path)
    assert text.count('src="data:image/jpeg;base64,') == 12
    assert len(text) < 3_000_000 * 12 / 72


@pytest.mark.parametrize("content", [None, "", "[1, 2]", "a: b: c"])
def test_what_is_no_run_folder_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        html.write(tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_torch_stays_out() -> None:
    code = "import sys, fewlabels.report.html; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.844, 0.985, [0.8, 0.85, 0.9, 0.95, 1.0]),
        (-0.02, 0.07, [-0.02, 0, 0.02, 0.04, 0.06, 0.08]),
    ],
)
def test_ticks_are_round_and_enclose(low: float, high: float, expected: list[float]) -> None:
    assert plots.ticks(low, high) == expected


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1.0, 1.0), (0.0, 1e-12), (0.0, 1e6)])
def test_ticks_of_odd_ranges_still_make_an_axis(low: float, high: float) -> None:
    marks = plots.ticks(low, high)
    assert marks[0] < marks[-1]
    assert len(marks) <= 7
