"""How it breaks, as the page says it: the newest of each kind, by hand, and what is missing."""

import re
from pathlib import Path

import pytest
from full_run import evaluation, make_full, robustness, share, write_evaluation
from test_html import EVIL, make, page
from test_report_sure import section


def test_what_was_not_measured_is_one_line(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    text = page(tmp_path)
    read = section(text, "breaks")
    flags = "--corruptions --perturbations --adversarial --stress"
    assert f"fewlabels evaluate {tmp_path} {flags}" in read
    assert "<table" not in text.split('<section id="breaks">')[1].split("</section>")[0]


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    make(folder, ["heron", "stork"])
    assert f"fewlabels evaluate &#39;{folder}&#39; --corr" in page(folder)


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    found = {key: value for key, value in robustness().items() if key in ("stress", "corruptions")}
    write_evaluation(tmp_path, 1, evaluation() | found)
    read = section(page(tmp_path), "breaks")
    assert "Not measured: perturbations, adversarial." in read
    assert f"evaluate {tmp_path} --perturbations --adversarial" in read


def test_corruptions(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    read = section(text, "breaks")
    assert "43.2 % C-like error" in read
    assert "15 corruptions in 5 severities, on 200 images of birds, 2026-03-02" in read
    assert "Undisturbed 5.0 % of 200 are wrong." in read
    assert "best under brightness, with 99.0 % right" in read
    # 80, 70, 60, 50, 40 less 14 for the last
    assert "worst under JPEG compression, with 46.0 %" in read
    grid = (
        text.split('class="heat grid"')[1].split("</table>")[0].replace("\N{NO-BREAK SPACE}", " ")
    )
    assert grid.count('class="right"') == 75
    assert "glass blur, severity 2: 66.0 % (59.2 to 72.2), n = 200" in grid
    assert re.search(r"--share:66%[^>]*>66</td>", grid)
    row = section(text, "breaks").split("With their intervals")[1]
    assert "glass blur 76.0 % 69.6 to 81.4 66.0 % 59.2 to 72.2" in row


def test_imagenet_c_itself_has_an_mce_and_no_clean_accuracy(tmp_path: Path) -> None:
    make(tmp_path, ["heron", "stork"])
    found = evaluation(50, data="/data/imagenet-c", published=True)
    del found["accuracy"]
    corruptions = robustness(50)["corruptions"] | {"mce": 0.712}
    write_evaluation(tmp_path, 1, found | {"corruptions": corruptions})
    read = section(page(tmp_path), "breaks")
    assert "on ImageNet-C's own images, 50 or more of each, 2026-03-02" in read
    assert "71.2 % mCE" in read
    assert "Undisturbed" not in read
    assert "On other images" not in read


def test_flip_rates_worst_first(tmp_path: Path) -> None:
    make_full(tmp_path)
    read = section(page(tmp_path), "breaks")
    assert "3.1 % mean flip rate (2.0 to 4.0)" in read
    first = read.index("zoom blur 5.1 % 4.0 to 7.0 200")
    assert first < read.index("gaussian noise 1.2 % 1.0 to 2.0 200")


def test_attacks_begin_at_the_clean_accuracy(tmp_path: Path) -> None:
    make_full(tmp_path)
    text = page(tmp_path)
    assert "FGSM 95.0 % at ε = 0, 35.0 % at ε = 8; PGD 95.0 % at ε = 0, 5.0 % at ε = 8" in text
    assert "PGD 0.25 80.0 % 73.9 to 85.0 200" in section(text, "breaks")


def test_stress_tells_where_five_points_are_lost(tmp_path: Path) -> None:
    make_full(tmp_path)
    read = section(page(tmp_path), "breaks")
    assert "viewpoint, turned 5 points are lost at 23 degrees 94 10 92 20 50 45" in read
    assert "scale, farther 5 points are lost at 62 % of the size" in read
    assert "illumination, brighter not lost up to 250 % of the light" in read
    assert "viewpoint, turned 20 degrees 92.0 % 87.4 to 95.0 \N{MINUS SIGN}3.0" in read


@pytest.mark.parametrize(
    ("unit", "level", "says"),
    [
        ("of the size", 1.546, "155 % of the size"),
        ("of the light", 0.9961, "100 % of the light"),
        ("of the area", 0.0752, "7.5 % of the area"),
        ("degrees", 9.96, "10 degrees"),
        ("degrees", 5.04, "5 degrees"),
    ],
)
def test_a_level_is_said_in_two_digits(tmp_path: Path, unit: str, level: float, says: str) -> None:
    make(tmp_path, ["heron", "stork"])
    cause = robustness()["stress"][0] | {"unit": unit, "falls_at": level}
    write_evaluation(tmp_path, 1, evaluation() | {"stress": [cause]})
    assert f"5 points are lost at {says}" in section(page(tmp_path), "breaks")


def test_the_newest_of_each_kind_counts(tmp_path: Path) -> None:
    """By number, of which ten is more than nine."""
    make_full(tmp_path)
    for number, error in ((10, 0.3), (9, 0.2)):
        found = robustness()["corruptions"] | {"c_like_error": error}
        write_evaluation(tmp_path, number, evaluation() | {"corruptions": found})
    write_evaluation(tmp_path, 11, evaluation())  # holds none
    read = section(page(tmp_path), "breaks")
    assert "30.0 % C-like error" in read
    assert "3.1 % mean flip rate" in read


def test_other_data_with_overlap_and_strangers(tmp_path: Path) -> None:
    make_full(tmp_path)
    old = evaluation(100, data="/elsewhere/gulls")
    new = evaluation(100, data="/elsewhere/gulls", strangers=7, accuracy=share(80, 100))
    new["learnt_from"] = {"images": 12, "others": share(66, 88)}
    name = "accuracy_among_its_classes"
    new[name] = share(85, 100, name)
    write_evaluation(tmp_path, 2, old)
    write_evaluation(tmp_path, 3, new)
    write_evaluation(tmp_path, 4, evaluation(100, data=f"/x/{EVIL}"))
    text = page(tmp_path)
    read = section(text, "breaks")
    assert "gulls 2026-03-02 80.0 % 71.1 to 86.7, n = 100" in read
    assert "The run has learnt from 12 of these images; of the others 75.0 %" in read
    assert "7 more are of classes that it does not know." in read
    assert "Asked only about the classes that occur: 85.0 %" in read
    assert read.count("gulls") == 1
    assert EVIL not in text
    # the run's own data is no other data
    assert "birds 2026" not in read
