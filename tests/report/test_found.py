"""What the page says of settings that were `auto`."""

import json
import re
from pathlib import Path
from typing import Any

from test_html import make

from fewlabels.report import html

RATE: dict[str, Any] = {
    "rates": [1e-6, 1e-4, 1e-2, 1.0],
    "losses": [2.0, 1.0, 0.5, 1e9],
    "smoothed": [2.0, 1.5, 1.0, 2.5],
    "chosen": 1e-3,
    "usual": 0.003,
    "said": "learning rate 0.001, found in 4 steps (usual: 0.003)",
}
BATCH: dict[str, Any] = {
    "sizes": [
        {"batch_size": 16, "images_per_second": 1000.0, "memory_mb": 700.0},
        {"batch_size": 32, "images_per_second": 1100.0, "memory_mb": 800.0},
    ],
    "chosen": 16,
    "lr": 0.003,
    "said": "batch size 16: 32 are only 1.10 times as fast",
}


def page(folder: Path, **found: Any) -> str:
    make(folder, ["heron", "stork"])
    for name, content in found.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return html.write(folder).read_text()


def test_a_run_whose_settings_were_given_says_nothing_of_it(tmp_path: Path) -> None:
    assert "set by itself" not in page(tmp_path)


def test_the_rate_is_plotted_over_its_logarithm(tmp_path: Path) -> None:
    text = page(tmp_path, learning_rate=RATE)
    assert "Learning rate 0.001, found in 4 steps (usual: 0.003)." in text
    assert "Batch size" not in text
    plot = text[text.index("The loss over the learning rate") :]
    lines = re.findall(r'<polyline class="([^"]+)" points="([^"]+)"', plot)[:3]
    raw, smoothed, chosen = (
        [tuple(map(float, pair.split(","))) for pair in points.split()] for _, points in lines
    )
    assert [x for x, _ in smoothed] == [0.0, 33.33, 66.67, 100.0]
    assert [x for x, _ in chosen] == [50.0, 50.0]  # 0.001 lies half-way from 1e-6 to 1
    assert raw[3][1] == 0.0  # 1e9 is held at the upper edge: 1.2 times the highest smoothed one
    assert smoothed[0][1] > raw[3][1]
    ticks = re.findall(r'class="tick x"[^>]*>([^<]+)<', plot)[:7]
    assert ticks == ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1"]


def test_where_no_rate_was_found_there_is_no_plot(tmp_path: Path) -> None:
    none = RATE | {"rates": [], "losses": [], "smoothed": [], "chosen": 0.003, "said": "no time"}
    text = page(tmp_path, learning_rate=none)
    assert "No time." in text
    assert "The loss over the learning rate" not in text


def test_the_batch_sizes_are_a_table(tmp_path: Path) -> None:
    text = page(tmp_path, batch_size=BATCH)
    assert "Batch size 16: 32 are only 1.10 times as fast." in text
    assert "1,100" in text
    assert "Learning rate" not in text
