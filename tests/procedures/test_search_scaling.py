"""The search for a scaling: α·β²·γ² = 2, nets of a size each, curves that can be trusted."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewlabels import api, cli
from fewlabels.errors import UserError
from fewlabels.models import anatomy, catalog
from fewlabels.models.scaling import cost, scale
from fewlabels.procedures import search
from fewlabels.procedures.config import Config
from fewlabels.procedures.folds import Fold
from fewlabels.procedures.search_scaling import Plan, multipliers
from fewlabels.procedures.stage import Context
from fewlabels.training.budget import Clock

QUICK: dict[str, Any] = {
    "what": "scaling",
    "steps": 3,
    "img_size": 8,
    "batch_size": 4,
    "folds": 2,
    "phi": 1,
}
ROW = {
    "phi", "alpha", "beta", "gamma", "model", "img_size", "parameters", "flops", "state", "folds",
    "accuracy", "spread", "seconds",
}  # fmt: skip


def numbers(found: api.Search) -> dict[str, Any]:
    """What was drawn and what came of it, without the seconds."""

    def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: row[name] for name in row if name != "seconds"} for row in rows]

    curves = {name: plain(rows) for name, rows in found.result["curves"].items()}
    return {"trials": plain(found.result["trials"]), "curves": curves}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Context]:
    """No training: the wider a net is, the better; the base has 0.5."""
    seen: list[Context] = []

    def judge(context: Context, fold: Fold, number: int) -> float:
        seen.append(context)
        return min(0.99, 0.5 + 0.1 * (catalog.parse(context.config.model)[1].get("width", 1) - 1))

    monkeypatch.setattr(search, "judge", judge)
    return seen


def test_every_draw_costs_twice_the_base() -> None:
    for u in np.linspace(0, 1, 21):
        for v in np.linspace(0, 1, 21):
            found = multipliers(float(u), float(v))
            assert min(found) >= 1
            assert cost(*found) == pytest.approx(2, abs=1e-3)
    assert multipliers(0, 0.3) == (2.0, 1.0, 1.0)
    assert multipliers(1, 0) == (1.0, 1.4142, 1.0)
    assert multipliers(1, 1) == (1.0, 1.0, 1.4142)


def test_the_base_comes_first_and_every_net_has_images_of_its_size(
    split_folders: Path, tmp_path: Path, judged: list[Context]
) -> None:
    found = api.search(split_folders, trials=2, out=tmp_path / "s", **QUICK)
    first = judged[0]
    assert (first.config.model, first.config.img_size) == ("cnn_small", 8)
    for context in judged:
        size = context.config.img_size
        assert context.data.images.shape[1:] == (size, size, 3)
        assert context.preprocess.size == size
        np.testing.assert_array_equal(context.data.labelled, first.data.labelled)
        assert context.data.digest == first.data.digest
    result = found.result
    assert (result["model"], result["img_size"], result["phi"]) == ("cnn_small", 8, 1)
    assert result["default"]["phi"] == 0
    assert {"number"} | ROW == result["default"].keys()
    for trial in result["trials"]:
        by = trial["alpha"], trial["beta"], trial["gamma"]
        assert cost(*by) == pytest.approx(2, abs=1e-3)
        scaled = scale("cnn_small", 1, *by, 8)
        assert (trial["model"], trial["img_size"]) == (scaled.name, scaled.size)
        totals = anatomy.totals(catalog.build(scaled.name, 2, "none").model, scaled.size)
        assert (trial["parameters"], trial["flops"]) == (totals.parameters, totals.flops)


def test_a_net_is_trained_once(split_folders: Path, tmp_path: Path, judged: list[Context]) -> None:
    found = api.search(split_folders, trials=8, out=tmp_path / "s", **QUICK)
    nets = [(trial["img_size"], trial["parameters"]) for trial in found.result["trials"]]
    assert len(set(nets)) < 8
    trained = [
        (context.config.img_size, sum(p.numel() for p in context.start.model.parameters()))
        for context in judged
    ]
    for net, trial in zip(nets, found.result["trials"], strict=True):
        twin = found.result["trials"][nets.index(net)]
        assert (trial["state"], trial["folds"]) == (twin["state"], twin["folds"])
        assert trained.count(net) == len(trial["folds"])


def test_each_curve_has_a_point_for_every_phi(
    split_folders: Path, tmp_path: Path, judged: list[Context]
) -> None:
    found = api.search(split_folders, trials=3, out=tmp_path / "s", **QUICK | {"phi": 2})
    curves, winner = found.result["curves"], found.result["winner"]
    assert list(curves) == ["depth", "width", "resolution", "compound"]
    for rows in curves.values():
        assert [row["phi"] for row in rows] == [1, 2]
        assert all(row.keys() == ROW for row in rows)
    assert [row["model"] for row in curves["depth"]] == [
        "cnn_small(depth=2)",
        "cnn_small(depth=4)",
    ]
    assert [row["model"] for row in curves["width"]] == [
        "cnn_small(width=1.414)",
        "cnn_small(width=2)",
    ]
    assert [row["img_size"] for row in curves["resolution"]] == [12, 16]  # 11.3
    assert winner["number"]
    assert winner["accuracy"] == max(trial["accuracy"] for trial in found.result["trials"])
    once, twice = curves["compound"]
    for name in ("alpha", "beta", "gamma", "model", "img_size", "folds"):
        assert once[name] == winner[name]
    assert twice["model"] == scale("cnn_small", 2, *(winner[n] for n in ("alpha", "beta"))).name
    log = (found.path / "train.log").read_text()
    assert log.index("trial 3 of 3") < log.index("depth, φ = 1") < log.index("compound, φ = 2")


def test_a_better_trial_compounds_anew_and_the_rest_stays(
    split_folders: Path, tmp_path: Path, judged: list[Context]
) -> None:
    few = api.search(split_folders, trials=1, out=tmp_path / "s", **QUICK)
    first = numbers(few)
    judged.clear()
    more = api.resume_search(tmp_path / "s", trials=4)
    assert more.result["winner"]["number"] > 1
    later = numbers(more)
    for name in ("depth", "width", "resolution"):
        assert later["curves"][name] == first["curves"][name]
    assert later["curves"]["compound"][0]["model"] == more.result["winner"]["model"]
    assert "cnn_small(depth=2)" not in {context.config.model for context in judged}


@pytest.mark.slow
def test_a_search_that_was_cut_off_goes_on_as_if_nothing_had_happened(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the first trial, and again on a curve."""
    whole = api.search(split_folders, trials=2, out=tmp_path / "whole", **QUICK)
    part, judge, calls = tmp_path / "part", search.judge, []

    def dies(*arguments: Any) -> float:
        calls.append(arguments)
        if len(calls) in (4, 11):
            (part / "scratch").mkdir()  # as a process that was killed leaves it
            raise KeyboardInterrupt
        return judge(*arguments)

    monkeypatch.setattr(search, "judge", dies)
    with pytest.raises(KeyboardInterrupt):
        api.search(split_folders, trials=2, out=part, **QUICK)
    with pytest.raises(KeyboardInterrupt):
        api.resume_search(part)
    log = (part / "train.log").read_text()
    assert "cut off is tried again" in log
    assert "depth, φ = 1" in log
    assert "resolution, φ = 1" not in log
    resumed = api.resume_search(part)
    assert numbers(resumed) == numbers(whole)
    assert numbers(api.resume_search(part)) == numbers(whole)  # nothing is left to do
    assert not (part / "scratch").exists()


def test_a_net_whose_loss_grows_without_bound_ends_its_point_only(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(context: Context, fold: Fold, number: int) -> float:
        if context.config.model == "cnn_small(depth=2)":
            raise UserError("the loss became nan at step 3: try a lower --lr")
        return 0.5

    monkeypatch.setattr(search, "judge", judge)
    found = api.search(split_folders, trials=1, out=tmp_path / "s", **QUICK)
    (point,) = found.result["curves"]["depth"]
    assert (point["state"], point["accuracy"]) == ("failed", None)
    assert not found.result["improved"]
    assert found.result["winner"]["model"] == "cnn_small"
    assert "the base model" in (found.path / "search.html").read_text()


def test_a_time_limit_leaves_time_for_the_curves(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of its own: a fold of the base takes a second, and other nets two."""
    now = [0.0]

    def judge(context: Context, fold: Fold, number: int) -> float:
        now[0] += 1.0 if context.config.model == "cnn_small" else 2.0
        return 0.5

    class Still(Clock):
        def __call__(self) -> float:
            return now[0]

    monkeypatch.setattr(search, "judge", judge)
    # the base 2 s, a trial up to 4 s, three points up to 4 s each, 1 s to close
    found = api.search(split_folders, out=tmp_path / "s", time_limit=23.5, clock=Still(), **QUICK)
    assert 1 <= len(found.result["trials"]) < 30
    assert all(found.result["curves"].values())
    assert "the time is up after" in (found.path / "train.log").read_text()
    none = api.search(split_folders, out=tmp_path / "n", time_limit=0.5, clock=Still(), **QUICK)
    assert none.result["trials"] == []
    assert not any(none.result["curves"].values())
    assert "after 0 of 3 points of the curves" in (none.path / "train.log").read_text()


def test_train_takes_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: list[Context]
) -> None:
    found = api.search("digits", trials=2, labels_per_class=2, out=tmp_path / "s", **QUICK)
    winner, given = found.result["winner"], {}
    assert found.result["improved"]

    def train(data: str, **settings: Any) -> None:
        given.update(settings, data=data)
        raise UserError("seen")

    monkeypatch.setattr(api, "train", train)
    monkeypatch.setattr(sys, "argv", shlex.split(found.result["use"]))
    with pytest.raises(SystemExit):
        cli.main()
    assert (given["data"], given["labels_per_class"], given["seed"]) == (["digits"], 2, 0)
    assert (given["model"], given["img_size"]) == (winner["model"], winner["img_size"])
    built = catalog.build(given["model"], 10)
    assert anatomy.totals(built.model, given["img_size"]).flops == winner["flops"]


def test_efficientnet_is_scaled_from_random_weights(
    split_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "judge", lambda *arguments: 0.5)
    own = QUICK | {"img_size": 72, "model": "efficientnet_b0"}
    found = api.search(split_folders, trials=1, out=tmp_path / "s", **own)
    (wide,) = found.result["curves"]["width"]
    assert wide["model"] == "efficientnet_b0(width=1.414)"
    assert 1.5 < wide["flops"] / found.result["default"]["flops"] < 2.5
    assert found.result["use"].endswith("--model efficientnet_b0 --weights none --img-size 72")
    with pytest.raises(UserError, match="--img-size 64: efficientnet_b0 loses strides"):
        api.search(split_folders, out=tmp_path / "small", **own | {"img_size": 64})
    assert not (tmp_path / "small").exists()


def test_the_settings_that_a_scaling_begins_with() -> None:
    plan = Plan("scaling")
    config = plan.settings(Config("digits", "supervised", steps=1))
    assert (config.model, config.weights, config.img_size) == ("cnn_small", "none", None)
    for wrong, says in (
        ({"model": "resnet20"}, "'resnet20' cannot be scaled; there are cnn_small and"),
        ({"model": "cnn_small(width=2)"}, "cannot be scaled"),
        ({"img_size": 33}, "--img-size 33: cnn_small is scaled in whole steps; the nearest side"),
        ({"model": "efficientnet_b0", "img_size": 100}, "the nearest side is 96"),
        ({"img_size": 4096}, "end at 8192 px"),
        ({"weights": "file.pth"}, "--weights file.pth: has no effect"),
    ):
        with pytest.raises(UserError, match=r"^[^\n]+$") as error:
            plan.settings(Config("digits", "supervised", steps=1, **wrong))  # type: ignore[arg-type]
        assert says in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scaling", "--operations", "2"], "--operations has no effect with --what scaling"),
        (["augmentation", "--phi", "2"], "--phi has no effect with --what augmentation"),
        (["scaling", "--phi", "4"], "--phi 4: must be between 1 and 3"),
        (["scaling", "--phi", "0"], "--phi 0: must be between 1 and 3"),
        (["scaling", "--model", "lenet5"], "'lenet5' cannot be scaled"),
        (["scaling", "--img-size", "31"], "--img-size 31"),
        (["depth"], "--what depth: must be one of augmentation, scaling"),
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
    monkeypatch.setattr(sys, "argv", ["fewlabels", "search", "digits", "--what", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not list(tmp_path.iterdir())
