"""Where no cache can be made, runs decode as they go: the same run, to the bit."""

from pathlib import Path
from typing import Any

import pytest
from conftest import picture
from safetensors.numpy import load_file

import fewlabels as fl

STEPS = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide ones and square ones."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for kind, name in enumerate(("left", "right")):
        for place, count in ((f"train/{name}", 4), (f"test/{name}", 3), ("unlabelled", 8)):
            (root / place).mkdir(parents=True, exist_ok=True)
            for seed in range(count):
                image = picture(kind, seed + 100 * len(place))
                image.crop((0, 2 * (seed % 2), 16, 16)).save(root / place / f"{kind}-{seed}.png")
    (root / "unlabelled" / "broken.png").write_bytes(b"no picture")
    return root


def trained(photos: Path, out: Path) -> fl.Run:
    settings: dict[str, Any] = {"img_size": 16, "batch_size": 4, "weights": "none", "guard": "off"}
    return fl.train(
        photos, out=out, method="fixmatch", steps=STEPS, augment="resized_crop+rand(2)", **settings
    )


def test_the_same_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [trained(photos, tmp_path / "whole")]
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWLABELS_CACHE_LIMIT", "1k")
    runs.append(trained(photos, tmp_path / "no room"))
    assert not list((tmp_path / "cache").glob("*.u8"))
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWLABELS_CACHE", str(tmp_path / "file"))
    runs.append(trained(photos, tmp_path / "no folder"))
    files = [next((run.path / "artefact").glob("*.safetensors")) for run in runs]
    whole, *others = map(load_file, files)
    for other in others:
        assert whole.keys() == other.keys()
        assert all(whole[name].tobytes() == other[name].tobytes() for name in whole)
    assert runs[0].result["test"] == runs[1].result["test"] == runs[2].result["test"]
    said = [(run.path / "train.log").read_text().count("decoded each time") for run in runs]
    assert said == [0, 1, 1]
