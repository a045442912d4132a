"""Runs whose labels are several classes an image, or numbers: from a table to the artefact."""

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import call
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score

import fewlabels as fl
from fewlabels.api import search
from fewlabels.procedures import tasks
from fewlabels.report import html
from fewlabels.report.console import print_run
from fewlabels.training.events import Events
from fewlabels.training.folder import RunFolder

QUICK: dict[str, Any] = {"batch_size": 8, "img_size": 16, "weights": "none", "device": "cpu"}
CLASSES = ("above", "below")
LABELS, TEST, UNLABELLED = 32, 24, 16


def several(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> str:
    """A bright square above, one below, both or none."""
    has = rng.random(2) < 0.5
    for top, there in zip((1, 9), has, strict=True):
        if there:
            pixels[top : top + 6, 5:11] = 230
    return "|".join(name for name, there in zip(CLASSES, has, strict=True) if there) or "|"


def length(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> str:
    """A bar across that begins at the left, and its length in a unit of its own."""
    columns = int(rng.integers(1, 16))
    pixels[5:11, :columns] = 230
    return f"{1000 + 10 * columns}"


def several_numbers(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> str:
    return f"{length(rng, pixels)}|{-0.5 * pixels[8].max(1).argmin()}"


def table(
    folder: Path, draw: Callable[[np.random.Generator, NDArray[np.uint8]], str], split: bool = True
) -> Path:
    """A CSV of labelled training images, test images and unlabelled ones."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(7), []
    for number in range(LABELS + TEST + UNLABELLED):
        pixels = rng.integers(0, 90, (16, 16, 3), np.uint8)
        label = draw(rng, pixels)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        test = LABELS <= number < LABELS + TEST and split
        label = "" if number >= LABELS + TEST else label
        rows.append((f"{number}.png", label, "test" if test else "train"))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])
    return folder / "labels.csv"


@dataclass(frozen=True)
class Trained:
    """A finished run and its test images in their order, with what is true of them."""

    run: fl.Run
    files: list[Path]
    truth: list[str]


@pytest.fixture(scope="module", params=["multi", "regression"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root, task = tmp_path_factory.mktemp(request.param), request.param
    draw = several if task == "multi" else length
    # several labels an image are seen, numbers are asked for
    asked = {} if task == "multi" else {"task": "regression"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(root / "cache"))
        patch.setenv("FEWLABELS_LABELS", str(root / "labels"))
        data = table(root / "images", draw)
        run = fl.train(data, method="mean_teacher", steps=60, out=root / "run", **asked, **QUICK)
    with data.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    return Trained(run, [data.parent / r["image"] for r in rows], [r["label"] for r in rows])


def indicators(labels: list[str]) -> NDArray[np.int64]:
    return np.array([[name in label.split("|") for name in CLASSES] for label in labels], int)


def test_it_learns_and_prediction_reproduces_what_is_reported(trained: Trained) -> None:
    result = trained.run.result
    score, said = result["test"], fl.load(trained.run).predict(trained.files)
    assert result["task"] == fl.load(trained.run).outputs.task
    assert score["n"] == len(trained.files) == TEST
    if result["task"] == "multi":
        truth, p = indicators(trained.truth), np.array([one.probabilities for one in said])
        precision = average_precision_score(truth, p, average="macro")
        assert score["mean_average_precision"] == round(precision, 4)
        low, high = score["mean_average_precision_interval"]
        assert truth.mean() < 0.7 < low <= precision <= high  # chance is the share that has it
        exact = (indicators([one.label for one in said]) == truth).all(1).mean()
        assert score["accuracy"] == round(float(exact), 4)
        assert score["interval"][0] < exact <= score["interval"][1]
        assert {one.label for one in said} <= {"|", "above", "below", "above|below"}
        assert {part["class"] for part in result["parts"]} == set(CLASSES)
        assert result["threshold"] == 0.5
    else:
        truth, values = np.array(trained.truth, float), np.array([one.values[0] for one in said])
        assert score["mae"] == pytest.approx(mean_absolute_error(truth, values), abs=1e-3)
        assert score["r2"] == pytest.approx(r2_score(truth, values), abs=1e-3)
        assert score["interval"][0] < score["mae"] < score["interval"][1]
        assert score["r2_interval"][0] > 0  # the mean of all has 0
        assert [float(one.label) for one in said] == pytest.approx(values.tolist(), rel=1e-9)
        assert "accuracy" not in score


def test_the_run_folder_says_the_task(trained: Trained) -> None:
    run, result = trained.run, trained.run.result
    task = result["task"]
    assert yaml.safe_load((run.path / "config.yaml").read_text())["task"] == task
    assert result["baseline"]["test"]["n"] == TEST
    told = result["difference"]["test"]
    assert told["score"] == ("mae" if task == "regression" else "mean_average_precision")
    gained = result["test"][told["score"]] - result["baseline"]["test"][told["score"]]
    assert told["difference"] == pytest.approx(gained, abs=2e-3)
    assert "nlabelled images" in result["verdict"]
    about = json.loads((run.path / "artefact" / "classifier.json").read_text())
    assert about["task"] == task
    assert ("label_mean" in about) == (task == "regression")
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").open()]
    assert not any("val_accuracy" in row for row in rows)
    table = pq.read_table(run.path / "predictions.parquet").to_pydict()
    assert table["split"].count("test") == TEST


def test_an_artefact_that_is_copied_says_the_same(trained: Trained, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in (trained.run.path / "artefact").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert repr(fl.load(copy).predict(trained.files)) == repr(
        fl.load(trained.run).predict(trained.files)
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_predict_command(
    monkeypatch: pytest.MonkeyPatch, trained: Trained, tmp_path: Path, kind: str
) -> None:
    out, broken = tmp_path / f"said.{kind}", tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    paths = [*trained.files[:3], broken]
    assert call(monkeypatch, "predict", trained.run.path, *paths, "-o", out) == 0
    multi = trained.run.result["task"] == "multi"
    numbers = ["p(above)", "p(below)"] if multi else []
    if kind == "csv":
        with out.open(newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    else:
        rows = pq.read_table(out).to_pylist()
    assert list(rows[0]) == ["image", "label", *numbers, "error"]
    assert [row["label"] for row in rows[:3]] == [
        one.label for one in fl.load(trained.run).predict(trained.files[:3])
    ]
    assert not rows[3]["label"]
    assert rows[3]["error"]


def test_what_is_for_one_class_an_image_says_so(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trained: Trained,
    tmp_path: Path,
    split_folders: Path,
) -> None:
    pytest.importorskip("captum")
    run, task = trained.run.path, trained.run.result["task"]
    again = tmp_path / "again"
    again.mkdir()
    for name in ("config.yaml", "result.json", "classes.json"):
        (again / name).write_bytes((run / name).read_bytes())
    for words in (
        ("evaluate", run),
        ("explain", run, trained.files[0], "-o", tmp_path / "why"),
        ("distill", run, "--model", "cnn_small", "--data", split_folders),
        ("compare", run, again),
        ("train", split_folders, "--method", "fixres", "--run", run),
    ):
        capsys.readouterr()
        assert call(monkeypatch, *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "one class an image" in line
        assert task in line


def test_the_page_and_the_terminal_tell_the_scores(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (trained.run.path / "report.html").read_text()
    assert "accuracy" not in page.lower()
    assert "<script" not in page
    assert call(monkeypatch, "status", trained.run.path) == 0
    status = capsys.readouterr().out
    print_run(trained.run.path, trained.run.result, Console(width=120))
    shown = capsys.readouterr().out
    score = trained.run.result["test"]
    if trained.run.result["task"] == "multi":
        value = f"{100 * score['mean_average_precision']:.1f} %"
        told = ("mean average precision", "every class right", value)
        assert "By class" in page
    else:
        told = ("mean absolute error", "R²", f"{score['mae']:.4g}")
        assert "Predicted against true" in page
        assert page.count("<title>true ") == TEST
    for text in told:
        assert text in page or text.capitalize() in page
        assert text in shown
        assert text in status
    assert trained.run.result["verdict"][:30] in shown.replace("\n", " ")


class CutOff(BaseException):
    """As a kill, at a moment that the test chooses."""


def everything(run: Path) -> dict[str, str]:
    """What a run leaves, as digests."""
    files = [*(run / "artefact").iterdir(), run / "predictions.parquet", run / "splits.parquet"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize(("draw", "task"), [(several, None), (several_numbers, "regression")])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, draw: Any, task: str | None
) -> None:
    data = table(tmp_path / "images", draw, split=False)
    asked = {"task": task, "method": "mean_teacher", "steps": 8} | QUICK
    whole = fl.train(data, out=tmp_path / "whole", **asked)
    tell, told = Events.metrics, 0

    def cut(events: Events, row: dict[str, Any]) -> None:
        nonlocal told
        told += 1
        if told == 11:  # in the method's trial
            raise CutOff
        tell(events, row)

    with monkeypatch.context() as patch:
        patch.setattr(Events, "metrics", cut)
        with pytest.raises(CutOff):
            fl.train(data, out=tmp_path / "cut", **asked)
    page = html.write(tmp_path / "cut").read_text()
    assert '<p class="verdict">This run' in page
    assert "on the validation images" in page
    assert "accuracy" not in page.lower()
    # labels given meanwhile are for the next run
    text = data.read_text().splitlines()
    number = next(i for i, row in enumerate(text) if row.split(",")[1] == "")
    unlabelled, given = text[number].split(",")[0], text[1].split(",")[1]
    data.write_text("\n".join([*text[:number], f"{unlabelled},{given},train", *text[number + 1 :]]))
    run = fl.resume(tmp_path / "cut")
    assert everything(run.path) == everything(whole.path)
    for name in ("val", "baseline", "labels", "unlabelled", "verdict"):
        mine, theirs = run.result[name], whole.result[name]
        if name == "baseline":
            mine, theirs = mine["val"], theirs["val"]
        if name == "verdict":
            mine, theirs = mine.partition(" s)")[0][:60], theirs.partition(" s)")[0][:60]
        assert mine == theirs
    assert f"1 newly labelled ({unlabelled})" in (run.path / "train.log").read_text()
    with pytest.raises(fl.UserError, match="--task single: the run was begun with"):
        fl.resume(run.path, task="single")


def test_auto_names_the_method_that_it_takes_for_several_classes(tmp_path: Path) -> None:
    data = table(tmp_path / "images", several)
    run = fl.train(data, steps=3, out=tmp_path / "run", **QUICK)
    assert run.result["method"] == "fixmatch"
    assert run.result["baseline"]["method"] == "supervised"
    assert "auto: labels only, then fixmatch" in (run.path / "train.log").read_text()
    alone = "\n".join(row for row in data.read_text().splitlines() if ",," not in row)
    data.write_text(alone)
    run = fl.train(data, steps=3, out=tmp_path / "alone", **QUICK)
    assert run.result["method"] == "supervised"
    assert "no unlabelled images" in run.result["choice"]["why"]


def test_with_too_little_time_auto_keeps_to_the_labels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = table(tmp_path / "images", several)
    monkeypatch.setattr(tasks, "LEAST", 10**9)
    run = fl.train(data, time_limit="4s", out=tmp_path / "run", **QUICK)
    assert run.result["method"] == "supervised"
    assert "steps only, too few for fixmatch" in run.result["choice"]["why"]
    assert (run.path / "stages" / "labels-only-longer").is_dir()


def test_several_numbers_are_each_told(tmp_path: Path) -> None:
    data = table(tmp_path / "images", several_numbers)
    run = fl.train(data, task="regression", steps=4, out=tmp_path / "run", **QUICK)
    assert "labels only, because no method is known" in run.result["choice"]["why"]
    assert run.result["method"] == "supervised"
    assert len(run.result["parts"]) == 2
    mean = np.mean([part["mae"]["mae"] for part in run.result["parts"]])
    assert run.result["test"]["mae"] == pytest.approx(mean, abs=1e-3)
    (said,) = fl.load(run).predict(data.parent / "0.png")
    assert [float(text) for text in said.label.split("|")] == pytest.approx(said.values)
    assert len(said.values) == 2


@pytest.mark.parametrize(
    ("task", "settings", "line"),
    [
        ("multi", {"method": "flexmatch"}, "--method flexmatch: has no meaning for the task multi"),
        ("multi", {"method": "noisy_student"}, "--method noisy_student: has no meaning"),
        ("multi", {"method": "pretrain"}, "--method pretrain: has no meaning"),
        ("multi", {"balance": "sampling"}, "--balance sampling: has no meaning for the task multi"),
        ("multi", {"mix": "mixup"}, "--mix mixup: has no meaning for the task multi"),
        ("multi", {"patience": 2}, "--patience 2: has no meaning for the task multi"),
        ("regression", {"method": "fixmatch"}, "no meaning for the task regression; take auto"),
        ("regression", {"labels_per_class": 2}, "--labels-per-class 2: has no meaning"),
        ("other", {}, "--task other: must be one of single, multi, regression"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything(
    tmp_path: Path, task: str, settings: dict[str, Any], line: str
) -> None:
    data = table(tmp_path / "images", length if task == "regression" else several)
    with pytest.raises(fl.UserError) as error:
        fl.train(data, task=task, steps=2, out=tmp_path / "run", **settings, **QUICK)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_labels_that_tell_nothing_apart_and_labels_of_another_task(tmp_path: Path) -> None:
    data = table(tmp_path / "images", lambda rng, pixels: "7")
    with pytest.raises(fl.UserError, match="has the same number"):
        fl.train(data, task="regression", steps=2, out=tmp_path / "run", **QUICK)
    pool = fl.Pool.scan(table(tmp_path / "others", several))
    with pytest.raises(fl.UserError, match="are read as multi"):
        fl.train(pool, task="regression", steps=2, out=tmp_path / "run", **QUICK)
    with pytest.raises(fl.UserError, match="--method linear_probe: has no meaning for the task"):
        fl.train(pool, method="linear_probe", img_size=16, out=tmp_path / "run")
    pytest.importorskip("optuna")
    with pytest.raises(fl.UserError, match="one class an image"):
        search(tmp_path / "others" / "labels.csv", trials=1)


def test_labels_per_class_are_kept_of_each_of_several(tmp_path: Path) -> None:
    data = table(tmp_path / "images", several)
    run = fl.train(
        data, labels_per_class=3, method="supervised", steps=2, out=tmp_path / "run", **QUICK
    )
    splits = pq.read_table(RunFolder.open(run.path).path / "splits.parquet").to_pydict()
    kept = [t for t, use in zip(splits["target"], splits["used"], strict=True) if "l" in use[:1]]
    kept += [t for t, u in zip(splits["target"], splits["used"], strict=True) if u == "held out"]
    assert len(kept) == run.result["labels"] < LABELS
    assert (np.sum(kept, axis=0) >= 3).all()
