"""The page of a comparison: what it says and draws, and that it is alone in the world."""

import re
from html import unescape
from pathlib import Path

import pytest
from small_runs import finished, images
from test_html import EVIL, check_form, words

import fewlabels as fl
from fewlabels.errors import UserError
from fewlabels.report import learning, read
from fewlabels.report.compare import compare
from fewlabels.report.comparison import STYLES, labels, render, write


def page(*runs: Path, against: Path | None = None) -> str:
    told = compare(runs, against)
    text = render(told, [read.load(Path(row["run"])) for row in told["runs"]])
    check_form(text)
    return text


def plots(text: str) -> list[str]:
    return [unescape(label) for label in re.findall(r'aria-label="([^"]*)"', text)]


def test_what_the_page_tells(tmp_path: Path) -> None:
    a = finished(tmp_path / "one", images(0, 50, 20), method="supervised", lr=0.03)
    b = finished(tmp_path / "two", images(0, 50, 5), method="fixmatch", lr=0.1)
    text = page(a, b)
    read = words(text)
    assert "More accurate than one: two." in read
    assert "two, fixmatch +30.0 " not in read  # the difference's row names the run alone
    assert re.search(r"two \+30\.0 \+\d+\.\d to \+\d+\.\d \+\d+\.\d to \+\d+\.\d 50 15 0", read)
    assert "one supervised 60.0 % 46.2 to 72.4 50" in read
    assert "lr 0.03 0.1" in read
    assert "seed" not in read.split("What differs in the settings")[1]
    assert "1 min 11 s 1 min 0 s 50 1,234 600 MB cpu" in read
    assert str(a) in read
    accuracy, difference, *curves = plots(text)
    assert accuracy.startswith("Accuracy with 95 % intervals: one, supervised 60.0 %, 46.2 to 72.4")
    assert "two, fixmatch +30.0, " in difference
    assert [curve.split(".")[0] for curve in curves] == [
        "Loss of the training, over time",
        "Loss of the training, over steps",
    ]
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 60_000


def test_zero_is_on_the_axis_of_differences_and_in_its_place(tmp_path: Path) -> None:
    """The whisker of two lies on the other side of zero when one and two change their parts."""
    a, b = (finished(tmp_path / x, images(0, 50, w)) for x, w in (("one", 20), ("two", 5)))
    for against, side in ((a, 1), (b, -1)):
        text = page(a, b, against=against)
        plot = text.split('<svg class="plot whiskers"')[2].split("</svg>")[0]
        (zero,) = re.findall(r'class="grid zero" x1="([\d.]+)%"', plot)
        (at,) = re.findall(r'circle cx="([\d.]+)%"', plot)
        assert side * (float(at) - float(zero)) > 10


def test_a_curve_for_each_run_and_each_baseline(tmp_path: Path) -> None:
    """`one` has a trial of its own; the stage that learnt from all labels was not validated."""
    one = finished(
        tmp_path / "one",
        images(0, 9, 3),
        method="supervised",
        stages=("labels only trial", "labels only"),
    )
    two = finished(tmp_path / "two", images(0, 9, 3), stages=("labels only trial", "fixmatch"))
    runs = [read.load(path) for path in (one, two)]
    name, style = {str(one): "one", str(two): "two"}, {str(one): "s0", str(two): "s2"}

    def drawn(key: str, over: str) -> list[tuple[str, str]]:
        return [(c.name, c.style) for c in learning.lines(runs, name, style, key, over)]

    grey = ("labels only beside two", "s1 trial")
    assert drawn("val_accuracy", "seconds") == [grey, ("one", "s0 trial")]
    assert drawn("loss", "step") == [grey, ("one", "s0"), ("two", "s2")]
    (line,) = [c for c in learning.lines(runs, name, style, "loss", "step") if c.name == "two"]
    assert line.points == [(10, 2.0), (20, 1.0), (30, 2 / 3), (40, 0.5)]
    text = page(one, two)
    assert text.count("<polyline") == 2 * (2 + 3)
    assert "two: learnt from all labels" in words(text)
    assert "A point is measured on 10 images: one of them is 10 points." in words(text)


def test_curves_lie_on_one_axis(tmp_path: Path) -> None:
    """A run that took half the steps ends in the middle."""
    a, b = (finished(tmp_path / x, images(0, 9, 3), stages=("fixmatch",)) for x in "ab")
    lines = (b / "metrics.jsonl").read_text().splitlines(keepends=True)
    (b / "metrics.jsonl").write_text("".join(lines[:2]))
    plot = page(a, b).split("over time.")[1].split("</svg>")[0]
    ends = [points.split()[-1].split(",")[0] for points in re.findall(r'points="([^"]*)"', plot)]
    assert ends == ["100.0", "50.0"]


def test_runs_keep_their_colour(tmp_path: Path) -> None:
    runs = [finished(tmp_path / f"r{i}x", images(0, 9, i)) for i in range(10)]
    text = page(*runs)
    accuracies = text.split('<svg class="plot whiskers"')[1].split("</svg>")[0]
    assert re.findall(r'class="whisker (\w+)"', accuracies) == [*STYLES, *STYLES[:2]]
    differences = text.split('<svg class="plot whiskers"')[2].split("</svg>")[0]
    assert re.findall(r'class="whisker (\w+)"', differences) == [*STYLES[1:], *STYLES[:2]]
    for style in STYLES:
        assert f"svg .whisker.{style} {{" in text
        assert f"--{style}: #" in text
    assert "begin again with the ninth" in words(text)


def test_names_of_folders_do_no_harm(tmp_path: Path) -> None:
    a = finished(tmp_path / "a<script>alert(1)<", images(0, 9, 3), augment=EVIL)
    b = finished(tmp_path / '"b"', images(0, 9, 2))
    assert "<script" not in page(a, b)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", images(0, 9, 3), stages=())
    b = finished(tmp_path / "b", images(9, 20, 10), seed=1, stages=())
    cut = finished(tmp_path / "cut", images(0, 9, 2))
    (cut / "result.json").unlink()
    text = page(a, b, cut)
    assert "no image in common with a: another seed draws other images" in words(text)
    assert "cut has not finished" in words(text)
    assert len(plots(text)) == 1  # accuracies; there are no differences and no curves


def test_long_names_are_cut_in_plots(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / (x * 60), images(0, 9, 3), seed=i) for i, x in enumerate("ab"))
    found = labels(compare([a, b]))
    assert found[str(a)] == "…" + 35 * "a" + ", seed 0"


def test_writing(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / x, images(0, 9, 3)) for x in "ab")
    target = tmp_path / "page.html"
    told = fl.compare([a, b], out=target)
    assert told == fl.compare([a, b])
    check_form(target.read_text(encoding="utf-8"))
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(UserError, match=r"taken\.html: cannot be written"):
        write(told, tmp_path / "taken.html")
    with pytest.raises(UserError, match=r"must end in \.html"):
        fl.compare([a, b], out=tmp_path / "page.pdf")
