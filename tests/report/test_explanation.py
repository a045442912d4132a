"""The page of explained images: what it says, how little it needs, how small it is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_html import check_form, words

from fewlabels.evaluate.explain.faithful import Deletion
from fewlabels.evaluate.explain.focus import Focus, focus
from fewlabels.evaluate.explain.gather import Channel, Check, ExplainedImage, Explanation, Heat
from fewlabels.evaluate.explain.images import Learnt
from fewlabels.evaluate.explain.layers import Filters, Stage
from fewlabels.pool.pool import Skipped
from fewlabels.report import explanation

EVIL = "<script>alert(1)</script>"
CLASSES = ("crab", EVIL)
BROKEN = (Skipped(f"{EVIL}.jpg", "cannot be decoded"),)


def check(won: int, n: int, same: float, method: str = "grad_cam") -> Check:
    share = np.linspace(0, 1, 5)
    area = np.where(np.arange(n) < won, 0.2, 0.6)
    curves = Deletion(share, 1 - share, area, 1 - share**2, np.full((5, n), 0.5))
    return Check(method, curves, {"the last layer": 0.7, "all layers": same}, 5)


def made(count: int = 2, side: int = 24, checks: tuple[Check, ...] = ()) -> Explanation:
    """Noise, the worst case for the size of a page."""
    rng = np.random.default_rng(0)

    def pixels(n: int) -> np.ndarray:
        return rng.integers(0, 256, (n, side, side, 3), np.uint8)

    def heats() -> tuple[Heat, ...]:
        maps = []
        for method in ("grad_cam", "guided_grad_cam", "integrated_gradients", "occlusion"):
            values = rng.normal(size=(side, side)).astype(np.float32)
            maps.append(Heat(method, 0, values, focus(values, values > 9)))
        return tuple(maps)

    images = tuple(
        ExplainedImage(
            f"photos/<b onload=1>-{i}.png",
            picture,
            np.array([0.9, 0.1]),
            heats(),
            tuple((row, 0.9 - 0.1 * row) for row in range(5)),
            False,
        )
        for i, picture in enumerate(pixels(count))
    )
    stages = tuple(
        Stage(
            f"stage{i}",
            (32, side // 2, side // 2),
            np.tile(np.arange(16), (count, 1)),
            rng.random((count, 16, side // 2, side // 2)).astype(np.float32),
        )
        for i in range(4)
    )
    names = tuple(f"train/{EVIL}/{i}.png" for i in range(6))
    return Explanation(
        CLASSES,
        images,
        stages,
        Filters("stem.0", 40, rng.integers(0, 256, (16, 5, 5, 3), np.uint8)),
        (Channel(7, (0, 1, 5)),),
        checks or (check(2, 2, 0.1), check(0, 2, 0.9, "occlusion")),
        Learnt(names, names, (0, 0, 0, 1, 0, -1), pixels(6)),
        ("something is missing",),
    )


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    path = explanation.write(made(), tmp_path / "why", "runs/1", BROKEN)
    page = path.read_text(encoding="utf-8")
    check_form(page)
    assert "http://" not in page
    assert "https://" not in page
    assert EVIL not in page
    assert "<b onload" not in page
    read = words(page)
    assert "crab , 90.0 %" in read
    assert "By Grad-CAM: It looks at no one place" in read
    assert "4 of the 5 labelled images most like it are crab." in read
    assert "cosine 0.80" in read
    assert "Something is missing." in read
    assert "cannot be decoded" in read
    assert "stage1: 16 of 32 maps of 12 x 12" in read
    assert "Channel 7" in read
    assert "unlabelled" in read
    assert "stem.0: 16 of 40 filters" in read
    assert page.count("<img ") == 2 * (1 + 4 + 5 + 4) + 3 + 1
    assert page.count('alt="') == page.count("<img ")
    assert 'alt=""' not in page


def test_the_files_beside_the_page(tmp_path: Path) -> None:
    explanation.write(made(), tmp_path, "runs/1", BROKEN)
    numbers = json.loads((tmp_path / "explanation.json").read_text())
    assert numbers["images"][0]["folder"] == "001-b-onload-1-0"
    assert numbers["images"][0]["alike"][3]["label"] == EVIL
    assert numbers["skipped"] == [{"name": f"{EVIL}.jpg", "reason": "cannot be decoded"}]
    own = tmp_path / numbers["images"][1]["folder"]
    names = {path.name for path in own.iterdir()}
    assert {"picture.png", "grad_cam.png", "occlusion.png", "stage-4.png"} <= names
    with Image.open(own / "picture.png") as image:
        assert image.size == (240, 240)  # 24 pixels, ten times as large
    assert {path.name for path in tmp_path.glob("*.png")} == {"filters.png", "channel-7.png"}


def test_twenty_images_stay_under_five_megabytes() -> None:
    page = explanation.render(made(20, 160), "runs/1")
    assert len(page) < 5_000_000


@pytest.mark.parametrize(
    ("centre", "place", "there", "border", "says"),
    [
        (
            0.62,
            "top",
            0.3,
            0.0,
            "mostly at the middle: 62 % of the heat lies in the middle quarter",
        ),
        (0.3, "upper left", 0.41, 0.0, "mostly at the upper left: 41 % of the heat lies in that"),
        (0.3, "top", 0.15, 0.0, "at no one place: no ninth of the image has more than 15 %"),
        (0.62, "top", 0.3, 0.25, "25 % of it lies on the border around the picture"),
    ],
)
def test_only_what_is_measured_is_said(
    centre: float, place: str, there: float, border: float, says: str
) -> None:
    text = explanation.look(Focus(centre, place, there, 0.09, border), "crab")
    assert says in text
    assert "Half of the heat lies on 9 % of the pixels." in text
    assert ("border" in text) == (border > 0)


def test_nothing_is_said_of_an_empty_map() -> None:
    assert explanation.look(None, "crab") == "Nothing in the map speaks for crab."


@pytest.mark.parametrize(
    ("won", "n", "says"),
    [
        (19, 20, "Grad-CAM finds what counts"),
        (12, 20, "Grad-CAM is not shown to find what counts"),
        (1, 20, "Grad-CAM misses what counts"),
        (3, 3, "Grad-CAM cannot be judged on 3 images"),
        (4, 4, "Grad-CAM finds what counts"),
    ],
)
def test_trust_needs_images(won: int, n: int, says: str) -> None:
    text = explanation.trust(check(won, n, 0.1))
    assert text.startswith(says)
    assert f"lower on {won} of {n} images" in text
    assert "moved elsewhere" in text
    assert "50.0 %" in text


def test_no_sign_is_written_before_nothing() -> None:
    assert "rank correlation 0.00," in explanation.trust(check(5, 5, -0.004))


@pytest.mark.parametrize(
    ("same", "says"), [(0.1, "destroyed"), (-0.1, "destroyed"), (0.45, "in part"), (0.8, "hardly")]
)
def test_a_map_that_survives_random_weights_is_told(same: float, says: str) -> None:
    text = explanation.trust(check(5, 5, same))
    assert says in text
    assert f"rank correlation {same:.2f}, 5 images".replace("-", "\N{MINUS SIGN}") in text


def test_names_of_folders() -> None:
    assert explanation.slug("photos/a b.jpg", 3) == "003-a-b"
    assert explanation.slug("..", 12) == "012"
    assert explanation.slug("żuk/ść.png", 1) == "001-ść"
    assert "/" not in explanation.slug("a\\b/c:d?.png", 1)
