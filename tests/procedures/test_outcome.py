"""What a run says of itself: images of one group count as fewer, copies are told."""

import csv
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import fewlabels as fl
from fewlabels.evaluate.intervals import accuracy
from fewlabels.evaluate.metrics import balanced_accuracy, by_class, confusion
from fewlabels.report import read, tables

QUICK: dict[str, Any] = {
    "method": "fixmatch",
    "steps": 4,
    "batch_size": 4,
    "img_size": 16,
    "model": "cnn_small",
    "device": "cpu",
}


def table(photos: Path, groups: bool) -> Path:
    """The pool as a table; two test images are of one group."""
    rows = []
    for split in ("train", "test", "unlabelled"):
        for number, file in enumerate(sorted((photos / split).rglob("*.png"))):
            label = "" if split == "unlabelled" else file.parent.name
            side = "test" if split == "test" else "train"
            group = f"{split}-{number // 2}" if groups else ""
            rows.append([file.relative_to(photos).as_posix(), label, side, group])
    path = photos / f"groups-{groups}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["image", "label", "split", "group"], *rows])
    return path


def test_images_of_one_group_count_as_fewer(split_folders: Path, tmp_path: Path) -> None:
    alone = fl.train(table(split_folders, False), out=tmp_path / "alone", **QUICK)
    grouped = fl.train(table(split_folders, True), out=tmp_path / "grouped", **QUICK)
    table_of = [pq.read_table(run.path / "predictions.parquet") for run in (alone, grouped)]
    assert "group" not in table_of[0].column_names
    group = table_of[1]["group"].to_numpy()
    right = (table_of[1]["label"].to_numpy() == table_of[1]["predicted"].to_numpy()).astype(bool)
    expected = accuracy(right, group)
    assert grouped.result["test"].items() >= expected.items()
    assert expected["interval"] != accuracy(right)["interval"]
    label, predicted = (table_of[1][name].to_numpy() for name in ("label", "predicted"))
    balanced = balanced_accuracy(label, right, group).to_json("balanced_accuracy")
    assert grouped.result["test"]["balanced_accuracy_interval"] == balanced["interval"]
    asked = read.load(grouped.path)
    shown = tables.by_class(asked.predictions["test"], confusion(label, predicted, 2), asked)
    rows = {row.name: row.recall for row in shown}
    scores = by_class(label, predicted, 2, group)
    assert [rows["left"], rows["right"]] == [score.recall for score in scores]
    assert scores != by_class(label, predicted, 2)


def test_copies_are_told(split_folders: Path, tmp_path: Path) -> None:
    file = min((split_folders / "train" / "left").iterdir())
    shutil.copy(file, split_folders / "train" / "right" / "again.png")
    shutil.copy(file, split_folders / "test" / "left" / "leak.png")
    told = fl.train(split_folders, out=tmp_path / "run", **QUICK).result["copies"]
    names = {f"train/left/{file.name}", "train/right/again.png", "test/left/leak.png"}
    assert [set(group) for group in told["duplicates"]] == [names]
    for kind in ("leaks", "contradictions"):
        (group,) = told[kind]
        assert {copy["name"] for copy in group} == names
        assert {copy["split"] for copy in group} == {"train", "test"}
        assert {copy["label"] for copy in group} == {"left", "right"}


def test_top_five_where_there_are_more_classes(tmp_path: Path, paint: Any) -> None:
    for number in range(6):
        paint(tmp_path / "photos" / "train" / f"class-{number}", number % 3, 2)
        paint(tmp_path / "photos" / "test" / f"class-{number}", number % 3, 2)
    run = fl.train(tmp_path / "photos", out=tmp_path / "run", **(QUICK | {"method": "supervised"}))
    told = run.result["test"]
    low, high = told["top5_accuracy_interval"]
    assert low <= told["top5_accuracy"] <= high
    assert told["top5_accuracy"] >= told["accuracy"]
    assert told["balanced_accuracy"] == pytest.approx(told["accuracy"])  # as many of each class
