import io
import re
from pathlib import Path

import numpy as np
import pytest
from pictures import scene
from PIL import Image
from rich.console import Console

from fewlabels.curate.check import check
from fewlabels.errors import UserError
from fewlabels.pool import Pool, Skipped
from fewlabels.pool.source import Encoded
from fewlabels.report import check_page
from fewlabels.report.check import print_check, told, verdict


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def pool(leak: bool = True) -> Pool:
    """Ten scenes of two classes; `leak`: one is in test too, one has two labels."""
    blobs = [png(scene(seed)) for seed in range(10)]
    names = [f"{seed}<b>.png" for seed in range(10)]
    label, split = [0, 1] * 5, ["train", "train", "train", "train", "test"] * 2
    if leak:
        names += ["leak.png", "doubt.png", "small.png"]
        blobs += [blobs[0], blobs[1], png(scene(2).resize((40, 40)))]
        label += [0, 0, 0]
        split += ["test", "train", "train"]
    names.append("cut.png")
    blobs.append(blobs[0][:-100])
    return Pool(
        origin="/somewhere/birds & bees",
        source=Encoded(tuple(names), tuple(blobs)),
        classes=("cat", "unknown"),
        label=np.array([*label, -1]),
        split=np.array([*split, "train"]),
        skipped=(Skipped("notes.txt", "not an image"),),
    )


def text(of: Pool) -> str:
    file = io.StringIO()
    print_check(check(of)[0], Console(file=file, width=100))
    return file.getvalue()


def test_what_is_wrong_comes_the_worst_first_and_once() -> None:
    found = told(check(pool())[0])
    assert [finding.key for finding in found] == [
        "leaks",
        "contradictions",
        "no_class",
        "unreadable",
        "near",
        "skipped",
    ]
    # told as something worse, the leak is not told again as a copy
    assert [str(image) for image in found[0].groups[0]] == [
        "0<b>.png (train, cat)",
        "leak.png (test, cat)",
    ]


def test_the_text() -> None:
    shown = text(pool())
    assert "/somewhere/birds & bees: 14 images" in shown
    assert "1 test image stands in another split too" in shown
    assert "1<b>.png (train, unknown) = doubt.png (train, cat)" in shown
    assert "cut.png (" in shown
    assert "2<b>.png = small.png" in shown
    assert "cannot be told: there is no unlabelled image to look at" in shown


def test_a_clean_pool_says_so() -> None:
    checked = check(pool(leak=False))[0]
    assert verdict(checked) == "No picture stands in more than one split."
    undecided = check(Pool("x", pool().source, ("a",), pool().label * 0, np.full(14, "")))[0]
    assert "not split yet" in verdict(undecided)


def test_the_page_stands_alone_and_shows_what_is_wrong(tmp_path: Path) -> None:
    of = pool()
    checked, pictures = check(of)
    check_page.write(checked, pictures, of, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "birds &amp; bees" in page
    assert "0&lt;b&gt;.png" in page
    assert "<b>.png" not in page
    assert not re.search(r"<script|https?://|src=\"(?!data:)", page)
    # two of the leak, two of the contradiction, two of the near ones, two class means
    assert len(re.findall(r'<img src="data:image/', page)) == 8
    for heading in ("several splits", "different labels", "mean picture", "Sizes", "unlabelled"):
        assert heading in page


def test_a_page_of_many_findings_is_small() -> None:
    rng = np.random.default_rng(0)
    blobs = tuple(png(Image.fromarray(p)) for p in rng.integers(0, 256, (300, 90, 90, 3), np.uint8))
    label = np.arange(600) % 60
    of = Pool(
        "many",
        Encoded(tuple(str(n) for n in range(600)), blobs + blobs),
        tuple(f"class {n}" for n in range(60)),
        label,
        np.where(np.arange(600) < 300, "train", "test"),
    )
    checked, pictures = check(of)
    assert len(checked.leaks) == 300
    assert len(check_page.render(checked, pictures, of)) < 2_000_000


def test_a_page_that_cannot_be_written_is_a_line(tmp_path: Path) -> None:
    of = pool()
    checked, pictures = check(of)
    with pytest.raises(UserError, match=r"must end in \.html"):
        check_page.write(checked, pictures, of, tmp_path / "page.txt")
    with pytest.raises(UserError, match="there is no folder"):
        check_page.write(checked, pictures, of, tmp_path / "absent" / "page.html")
