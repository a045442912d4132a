"""The same seed gives the same result, whatever the number of loader threads, of runs before it in
the process, and of hash seeds; another seed gives another."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from interrupted import differences, result

import fewlabels as fl

# more than one step in flight for each of four threads, and several epochs of 8 labels
QUICK = {"steps": 16, "batch_size": 4, "img_size": 16, "weights": "none"}
METHODS = ("supervised", "flexmatch", "meta_pseudo_labels")


def trained(data: Path, run: Path, **settings: Any) -> dict[str, Any]:
    return result(fl.train(data, out=run, **QUICK | settings).path)


@pytest.mark.parametrize("method", METHODS)
def test_threads_and_earlier_runs_change_nothing(
    split_folders: Path, tmp_path: Path, method: str
) -> None:
    own = {"method": method, "flip": "off", "rotate": "off", "guard": "off"}
    if method == "supervised":
        own.pop("guard")
    first = trained(split_folders, tmp_path / "1", workers=1, **own)
    for workers in (2, 4):
        again = trained(split_folders, tmp_path / str(workers), workers=workers, **own)
        assert differences(first, again) == []
    other = trained(split_folders, tmp_path / "other", seed=1, **own)
    weights = "artefact/weights.safetensors"
    assert first[weights] != other[weights]


@pytest.mark.slow
@pytest.mark.parametrize("method", [*METHODS, "auto", "noisy_student"])
def test_processes_with_other_hash_seeds_give_the_same(
    split_folders: Path, tmp_path: Path, method: str
) -> None:
    quick = ["--steps", "16", "--batch-size", "4", "--img-size", "16", "--weights", "none"]
    found = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "fewlabels", "train", str(split_folders), *quick]
        command += ["--method", method, "--out", str(tmp_path / seed)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": seed})
        found.append(result(tmp_path / seed))
    assert differences(*found) == []
