"""Failures, problems in the data, what to do next, and the page's limits."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from full_run import calibration, evaluation, make_full, robustness, share, write_evaluation
from test_html import EVIL, make, page, png
from test_report_sure import section

LIMIT = 5_000_000  # bytes


def test_the_sections_are_in_order(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    places = [
        text.index(f'<section id="{name}">')
        for name in ("sure", "tried", "fails", "breaks", "pseudo", "problems", "next", "again")
    ]
    assert places == sorted(places)
    assert text.index("Accuracy on") < places[0]


def test_every_plot_has_its_numbers_beside_it(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    plots = [found.end() for found in re.finditer('<svg class="plot', text)]
    assert len(plots) == 9
    for place in plots:  # the next thing to unfold in its section is the table of its numbers
        rest = text[place:].split("<section")[0]
        assert "<table" in rest.split("<details")[1]


def test_mistakes_stand_beside_their_heat(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    wrong = text.split('<ul class="pictures wrong beside">')[1].split("</ul>")[0]
    assert wrong.count("<img") == 2
    assert "speaks for heron, as heat" in wrong
    assert "pip install" not in text
    assert text.count(' beside"') == 1  # the others have none


def test_without_heat_the_extra_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    read = section(page(tmp_path), "fails")
    assert "pip install 'fewlabels[explain]'" in read


def test_the_weakest_classes_come_first_with_both_intervals(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork", "ibis"])
    # all of 10 herons right, 9 of 10 storks, 8 of 10 ibises; what is missed is called heron
    label = np.repeat(np.arange(3), 10)
    predicted = np.where(np.tile(np.arange(10), 3) < label, 0, label)
    table = pq.read_table(tmp_path / "predictions.parquet").to_pydict()
    table |= {"label": label, "predicted": predicted}
    pq.write_table(pa.table(table), tmp_path / "predictions.parquet")
    read = section(page(tmp_path), "fails")
    # Wilson's intervals of 8/10 and 9/10
    assert "ibis 80.0 % 49.0 to 94.3, n = 10 100.0 % 67.6 to 100.0, n = 8 heron (2)" in read
    assert "stork 90.0 % 59.6 to 98.2, n = 10" in read
    assert "heron 100.0 % 72.2 to 100.0, n = 10 76.9 % 49.7 to 91.8, n = 13 \N{EN DASH}" in read
    assert read.index("ibis 80") < read.index("stork 90") < read.index("heron 100")


def test_confused_pairs_have_an_interval(tmp_path: Path) -> None:
    make(tmp_path, [f"bird {i}" for i in range(21)])
    read = section(page(tmp_path), "fails")
    assert "bird 0 bird 1 1 10.0 % 1.8 to 40.4, n = 10" in read  # Wilson's of 1/10


def test_rounds_student_and_members_with_their_intervals(tmp_path: Path) -> None:
    labels = [{"class": "heron", "said": 9, "sure": 8, "learnt": 7, "shown": 6}]
    inside = {"folder": "rounds/1", "teacher": "labels only", "model": "cnn_small", "img_size": 32}
    inside |= {"val": share(9, 10), "test": share(8, 10), "pseudo_labels": labels}
    side = {"model": "m", "test": share(8, 10), "parameters": 1234}
    side |= {"megabytes": 0.5, "images_per_second": 99}
    difference = {"difference": 0.1, "interval": [-0.1, 0.3], "n": 10}
    make_full(
        tmp_path,
        runs=[inside, {"folder": "rounds/2", "method": "without pseudo-labels"}],
        kept={"teacher": side, "student": side, "agreement": 0.9},
        members=[{"run": "runs/1", "test": share(8, 10), "difference": difference}],
    )
    text = page(tmp_path)
    read = section(text, "tried")
    assert "32 px 7 of 9 90.0 % 59.6 to 98.2, n = 10 80.0 % 49.0 to 94.3, n = 10" in read
    assert "student m 80.0 % 49.0 to 94.3, n = 10 1,234" in read
    assert "Both say the same of 90.0 % (59.6 to 98.2, n = 10) of the test images." in read
    assert "runs/1 80.0 % 49.0 to 94.3, n = 10 +10.0" in read
    assert "heron 9 8 7 6" in section(text, "pseudo")


def test_problems_are_told_once_and_the_worst_first(tmp_path: Path) -> None:
    make_full(tmp_path)
    read = section(page(tmp_path), "problems")
    assert "The same image in more than one split: 1" in read
    assert "c.png = d.png train, test" in read
    assert "The same image with different labels: 1" in read
    assert "e.png = f.png ibis, stork" in read
    assert "Copies: 1" in read
    assert "a.png = b.png" in read
    assert read.count("c.png") == 1
    assert "g.png stork heron 99.6 %" in read
    assert "2 of 40 were left out." in read
    assert read.index("more than one split") < read.index("look wrong") < read.index("Copies")


def test_only_what_was_looked_for_is_absent(tmp_path: Path) -> None:
    result = make(tmp_path, ["heron", "stork"])
    (tmp_path / "result.json").write_text(json.dumps(result | {"skipped": []}))
    read = section(page(tmp_path), "problems")
    assert "Looked for and not found: files that cannot be used." in read
    kinds = ("duplicates", "leaks", "contradictions")
    nothing: dict[str, Any] = {kind: [] for kind in kinds}
    nothing["counts"] = dict.fromkeys((*kinds, "others"), 0)
    more = {"skipped": [], "copies": nothing, "doubtful_labels": []}
    (tmp_path / "result.json").write_text(json.dumps(result | more))
    read = section(page(tmp_path), "problems")
    assert "copies in more than one split, copies with different labels" in read
    assert "none of the classes" not in read  # there was no guard
    assert "files that cannot be used." in read


@pytest.mark.parametrize(("out", "says"), [(0, "found: files"), (2, "2 of 40 were left out.")])
def test_the_guard(tmp_path: Path, out: int, says: str) -> None:
    result = make(tmp_path, ["heron", "stork"])
    guard = {"said": f"guard: {out} of 40 were left out", "left_out": out, "scored": 40}
    (tmp_path / "result.json").write_text(json.dumps(result | {"skipped": [], "guard": guard}))
    read = section(page(tmp_path), "problems")
    assert says in read
    assert ("unlabelled images that look like none of the classes." in read) == (out == 0)


def test_what_next(tmp_path: Path) -> None:
    make_full(tmp_path)
    read = section(page(tmp_path), "next")
    assert "Label more images, of stork first" in read
    assert f"fewlabels predict {tmp_path} PHOTOS" in read
    assert "see how it breaks" not in read  # it was measured


def hostile(value: Any) -> Any:
    """Every string but keys of meaning is evil."""
    if isinstance(value, dict):
        keep = ("estimate", "how")
        return {k: v if k in keep else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return f"{value}{EVIL}\"'" if isinstance(value, str) else value


def test_all_that_others_wrote_is_escaped(tmp_path: Path) -> None:
    result = make_full(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(hostile(result)))
    found = hostile(evaluation(100, strangers=3) | robustness())
    found["corruptions"]["accuracy"] |= {EVIL: [share(1, 2)] * 5}
    found["perturbations"]["flip_rate"] |= {EVIL: share(1, 2, "flip_rate")}
    found["adversarial"] |= {EVIL: found["adversarial"]["fgsm"]}
    write_evaluation(tmp_path, 2, found)
    (tmp_path / "classes.json").write_text(json.dumps([EVIL, f'"{EVIL}', f"'{EVIL}"]))
    text = page(tmp_path)
    assert EVIL not in text
    assert EVIL.upper() not in text
    assert "onload" not in text


def test_the_largest_page_stays_light(tmp_path: Path) -> None:
    """1000 classes, noise for pictures, and more of everything than anyone has."""
    k = 1000
    classes = [f"a class with a rather long name, number {i}" for i in range(k)]
    result = make(tmp_path, classes)
    names = [f"folder/of/some/depth/{i:06}.jpg" for i in range(2000)]
    copy = {"name": names[0], "split": "train", "label": classes[0]}
    result |= {
        "calibration": calibration(),
        "skipped": [{"name": name, "reason": "cannot be decoded"} for name in names],
        "doubtful_labels": [
            {"name": n, "label": classes[0], "predicted": classes[1], "confidence": 1.0}
            for n in names
        ],
        "copies": {
            "duplicates": [names] * 100,
            "leaks": [[copy] * 2000] * 100,
            "contradictions": [[copy] * 2000] * 100,
            "counts": {"duplicates": 900, "leaks": 300, "contradictions": 200, "others": 700},
        },
        "guard": {"said": "Some.", "left_out": 24, "scored": 40},
        "runs": [
            {
                "folder": "rounds/1",
                "teacher": "labels only",
                "model": "cnn_small",
                "img_size": 32,
                "val": share(9, 10),
                "test": share(9, 10),
                "pseudo_labels": [
                    {"class": name, "said": 9, "sure": 8, "learnt": 7, "shown": 7}
                    for name in classes
                ],
            }
        ],
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    noise = [png(160, seed=i) for i in range(6)]  # the worst case: it cannot be compressed
    rows = [
        {"kind": kind, "name": names[i], "label": 0, "predicted": 1, "confidence": 0.5}
        | {"picture": noise[i % 6], "heat": noise[(i + 1) % 6] if kind == "wrong" else None}
        for kind in ("right", "wrong", "pseudo", "stranger")
        for i in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "gallery.parquet")
    write_evaluation(tmp_path, 1, evaluation() | robustness())
    text = page(tmp_path)
    assert text.count("<img") == 24 * 5
    assert len(text.encode()) < LIMIT
    for count in (300, 200, 700):  # and not as many as are listed
        assert f": {count}</h3>" in text
    assert "1994 more" in text.replace(",", "")


def test_an_unfinished_run_may_hold_any_part(tmp_path: Path) -> None:
    make_full(tmp_path)
    for name in ("result.json", "gallery.parquet", "predictions.parquet", "metrics.jsonl"):
        page(tmp_path)
        (tmp_path / name).unlink()
    assert "has not finished" in page(tmp_path)
