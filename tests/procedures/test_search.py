"""The search for an augmentation: fair folds, trials that can be repeated, resumed and trusted."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Paint
from rich.console import Console

from fewlabels import api, cli
from fewlabels.augment.policy import STRONG, Policy
from fewlabels.errors import UserError
from fewlabels.pixels.cache import fingerprint
from fewlabels.pool import Pool
from fewlabels.procedures import search
from fewlabels.procedures.config import Config
from fewlabels.procedures.folds import Fold, make_folds
from fewlabels.procedures.prepare import Data, prepare
from fewlabels.procedures.stage import Context
from fewlabels.settings import make
from fewlabels.training.budget import Clock

QUICK: dict[str, Any] = {"steps": 5, "img_size": 8, "batch_size": 4, "folds": 2}


def prepared(root: Path) -> Data:
    pool = Pool.scan(root)
    return prepare(pool, fingerprint(pool.source), 8, 0)


def numbers(found: api.Search) -> list[tuple[str, list[float]]]:
    """What the trials drew and what came of it."""
    return [(trial["policy"], trial["folds"]) for trial in found.result["trials"]]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No training: the default policy has 0.5, those after it have 0.6, 0.59, 0.58, …"""
    seen: list[str] = []

    def judge(context: Context, fold: Fold, number: int) -> float:
        text = str(context.config.augment)
        if text not in seen and text != str(STRONG):
            seen.append(text)
        return 0.5 if text == str(STRONG) else round(0.6 - 0.01 * seen.index(text), 2)

    monkeypatch.setattr(search, "judge", judge)
    return seen


def test_folds_hold_out_every_label_once_class_by_class(tmp_path: Path, paint: Paint) -> None:
    for kind, count in enumerate((7, 5)):
        paint(tmp_path / "train" / str(kind), kind, count)
    data = prepared(tmp_path)
    folds = make_folds(data, 3, 0)
    together = np.concatenate([fold.judged for fold in folds])
    np.testing.assert_array_equal(np.sort(together), data.labelled)
    for fold in folds:
        assert not np.intersect1d(fold.train, fold.judged).size
        assert len(fold.train) + len(fold.judged) == 12
        by_class = np.bincount(data.pool.label[fold.judged], minlength=2)
        assert by_class[0] in (2, 3)
        assert by_class[1] in (1, 2)
    again, other = (make_folds(data, 3, seed) for seed in (0, 1))
    assert all((a.judged == b.judged).all() for a, b in zip(folds, again, strict=True))
    assert any(a.judged.tolist() != b.judged.tolist() for a, b in zip(folds, other, strict=True))


def test_folds_keep_copies_together_and_leave_a_class_its_last_label(
    tmp_path: Path, paint: Paint
) -> None:
    for kind, count in enumerate((4, 4, 1)):
        paint(tmp_path / "train" / str(kind), kind, count)
    for file in sorted((tmp_path / "train" / "0").iterdir()):
        file.with_name(f"copy-{file.name}").write_bytes(file.read_bytes())
    data = prepared(tmp_path)
    folds = make_folds(data, 3, 0)
    for fold in folds:
        assert set(data.pool.label[fold.train]) == {0, 1, 2}
        digests = [{data.digest[row] for row in rows} for rows in (fold.train, fold.judged)]
        assert digests[0].isdisjoint(digests[1])
    assert 2 not in data.pool.label[np.concatenate([fold.judged for fold in folds])]


def test_a_pool_with_validation_images_is_judged_on_them(tmp_path: Path, paint: Paint) -> None:
    for kind in (0, 1):
        paint(tmp_path / "train" / str(kind), kind, 1)
        paint(tmp_path / "val" / str(kind), kind, 3)
    data = prepared(tmp_path)
    for fold in make_folds(data, 3, 0):
        np.testing.assert_array_equal(fold.train, data.labelled)
        np.testing.assert_array_equal(fold.judged, data.val)
    found = api.search(tmp_path, trials=1, out=tmp_path / "s", **QUICK)
    assert (found.result["judged_on"], found.result["judged"]) == ("val", 6)


def test_one_label_a_class_cannot_be_searched_with(tmp_path: Path, paint: Paint) -> None:
    for kind in (0, 1):
        paint(tmp_path / "data" / "train" / str(kind), kind, 1)
        paint(tmp_path / "data" / "unlabelled", kind, 1)
    with pytest.raises(UserError, match="2 labelled training images of 2 classes are too few"):
        api.search(tmp_path / "data", out=tmp_path / "s", **QUICK)
    assert not (tmp_path / "s").exists()


def test_a_search_on_digits_ends_with_a_policy_that_train_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("shown.txt").open("w") as shown:
        found = api.search(
            "digits", trials=3, labels_per_class=2, console=Console(file=shown), **QUICK
        )
    assert found.path == Path("searches/1")
    names = {path.name for path in found.path.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "policy.txt", "process.json", "progress.json", "search.html", "search.json",
        "study.db", "train.log",
    }  # fmt: skip
    told = json.loads((found.path / "progress.json").read_text())
    assert told["folder"] == "scratch"  # the last training; status tells where a search is
    assert json.loads((found.path / "search.json").read_text()) == found.result
    policy = Policy.read(str(found.path / "policy.txt"))
    assert str(policy) == found.result["winner"]["policy"]
    make(Config, {"data": "digits", "augment": "searches/1/policy.txt"}, "test")
    assert found.result["use"] == (
        "fewlabels train digits --labels-per-class 2 --seed 0 --img-size 8 "
        "--augment searches/1/policy.txt"
    )
    assert found.result["default"]["policy"] == str(STRONG)
    assert [trial["number"] for trial in found.result["trials"]] == [1, 2, 3]
    lines = Path("shown.txt").read_text().splitlines()
    for i, trial in enumerate(found.result["trials"], 1):
        (line,) = (line for line in lines if line.startswith(f"trial {i} of 3: "))
        assert line.endswith(trial["policy"])


def test_test_labels_are_never_looked_at_and_a_seed_gives_the_same_trials(
    split_folders: Path, tmp_path: Path
) -> None:
    pool = Pool.scan(split_folders)
    turned = replace(pool, label=np.where(pool.split == "test", 1 - pool.label, pool.label))
    found = [
        api.search(which, trials=2, seed=seed, out=tmp_path / str(i), **QUICK)
        for i, (which, seed) in enumerate([(pool, 0), (turned, 0), (pool, 1)])
    ]
    assert numbers(found[0]) == numbers(found[1])
    assert found[0].result["default"]["folds"] == found[1].result["default"]["folds"]
    assert numbers(found[0]) != numbers(found[2])


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_as_if_nothing_had_happened(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = api.search(split_folders, trials=3, out=tmp_path / "whole", **QUICK)
    part, judge, calls = tmp_path / "part", search.judge, []

    def dies(*arguments: Any) -> float:
        calls.append(arguments)
        if len(calls) == 6:  # the second fold of the second trial
            (part / "scratch").mkdir()  # as a process that was killed leaves it
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(search, "judge", dies)
    with pytest.raises(KeyboardInterrupt):
        api.search(split_folders, trials=2, out=part, **QUICK)
    monkeypatch.setattr(search, "judge", judge)
    assert "go on with: fewlabels search --resume" in (part / "train.log").read_text()
    assert len(json.loads((part / "search.json").read_text())["trials"]) == 1

    resumed = api.resume_search(part)
    assert "cut off is tried again" in (part / "train.log").read_text()
    assert numbers(resumed) == numbers(whole)[:2]
    more = api.resume_search(part, trials=3)
    assert numbers(more) == numbers(whole)
    assert numbers(api.resume_search(part)) == numbers(whole)  # nothing is left to do


def test_sampling_from_what_was_learnt_goes_on_too(
    split_folders: Path, tmp_path: Path, judged: list[str]
) -> None:
    whole = api.search(split_folders, trials=13, out=tmp_path / "whole", **QUICK)
    judged.clear()
    api.search(split_folders, trials=12, out=tmp_path / "part", **QUICK)
    assert numbers(api.resume_search(tmp_path / "part", trials=13)) == numbers(whole)


def test_a_policy_that_is_worse_than_the_median_is_cut_off(
    split_folders: Path, tmp_path: Path, judged: list[str]
) -> None:
    found = api.search(split_folders, trials=9, out=tmp_path / "s", **QUICK)
    states = [trial["state"] for trial in found.result["trials"]]
    assert states == ["complete"] * 5 + ["pruned"] * 4
    assert [len(trial["folds"]) for trial in found.result["trials"]] == [2] * 5 + [1] * 4
    assert found.result["improved"]
    assert found.result["winner"]["number"] == 1
    assert found.result["difference"]["mean"] == pytest.approx(0.1)
    assert "(cut off early)" in (found.path / "train.log").read_text()
    assert "cut off after 1" in (found.path / "search.html").read_text()


def test_the_default_policy_stays_where_none_is_better(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "judge", lambda *arguments: 0.5)
    found = api.search(split_folders, trials=2, out=tmp_path / "s", **QUICK)
    assert not found.result["improved"]
    assert Policy.read(str(found.path / "policy.txt")) == STRONG
    assert "2 trials, none better" in (found.path / "policy.txt").read_text()
    assert "No policy of 2 beat the default one" in (found.path / "search.html").read_text()


def test_a_policy_whose_loss_grows_without_bound_ends_its_trial_only(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def judge(context: Context, fold: Fold, number: int) -> float:
        calls.append(number)
        if len(calls) == 3:
            raise UserError("the loss became nan at step 3: try a lower --lr")
        return 0.5

    monkeypatch.setattr(search, "judge", judge)
    found = api.search(split_folders, trials=2, out=tmp_path / "s", **QUICK)
    assert [trial["state"] for trial in found.result["trials"]] == ["failed", "complete"]
    assert found.result["trials"][0]["accuracy"] is None


def test_a_time_limit_ends_before_the_trial_that_would_run_over(
    split_folders: Path, tmp_path: Path, judged: list[str]
) -> None:
    clock = Clock()
    found = api.search(split_folders, out=tmp_path / "s", clock=clock, time_limit=0.5, **QUICK)
    assert found.result["trials"] == []
    assert Policy.read(str(found.path / "policy.txt")) == STRONG
    assert "the time is up after 0 of 30 trials" in (found.path / "train.log").read_text()
    assert len(api.resume_search(found.path, trials=2).result["trials"]) == 2


def test_a_search_goes_on_alone_and_on_the_same_images(
    split_folders: Path, tmp_path: Path, paint: Paint, judged: list[str]
) -> None:
    found = api.search(split_folders, trials=1, out=tmp_path / "s", **QUICK)
    with search._alone(found.path), pytest.raises(UserError, match="another process"):
        api.resume_search(found.path)
    paint(split_folders / "train" / "right", 1, 6)
    with pytest.raises(UserError, match="others than when this search began"):
        api.resume_search(found.path)
    with pytest.raises(UserError, match="has no effect in a search"):
        api.search(split_folders, method="fixmatch")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["digits"], "--what"),
        (["digits", "--what", "colours"], "must be one of augmentation"),
        (["--what", "augmentation"], "name DATA"),
        (["digits", "--what", "augmentation", "--folds", "1"], "--folds 1"),
        (["digits", "--what", "augmentation", "--steps", "0"], "--steps 0"),
        (["--resume", "run", "--steps", "3"], "here: --steps"),
        (["digits", "--resume", "run"], "here: DATA"),
        (["--resume", "absent"], "is no run folder"),
        (["--resume", "run"], "is a run, not a search"),
        (["digits", "--what", "augmentation", "--out", "run"], "is not empty"),
    ],
)
def test_wrong_use_gets_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    Path("run/config.yaml").write_text("data: digits\n")
    monkeypatch.setattr(sys, "argv", ["fewlabels", "search", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'fewlabels\[search\]'"):
        api.search("digits")
