"""The command line as a user meets it: exit codes, one clear line, a run that survives a kill."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import Paint, call, picture
from PIL import Image

from fewlabels import cli
from fewlabels.training import progress

QUICK = ["--batch-size", "4", "--img-size", "16", "--weights", "none"]


def test_help_is_quick() -> None:
    """It takes little more than the library that prints it, in the same run."""

    def cpu(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # the best of three: other processes on the machine only ever add
    typer = min(cpu("-c", "import typer.rich_utils, rich.console") for _ in range(3))
    assert min(cpu("-m", "fewlabels", "--help") for _ in range(3)) < 2 * typer


def test_help_imports_nothing_heavy() -> None:
    told = "import sys; import fewlabels.cli; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", told], check=True, capture_output=True, text=True)
    heavy = {"torch", "numpy", "numba", "PIL", "pyarrow", "sklearn", "scipy", "matplotlib"}
    assert not heavy & set(ended.stdout.split())


COMMANDS = [each.callback.__name__ for each in cli.app.registered_commands if each.callback]


def test_the_commands_are_known() -> None:
    assert {"train", "status", "compare"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    said = capsys.readouterr().out
    assert "Usage" in said
    assert (call(monkeypatch, "--help"), command in capsys.readouterr().out) == (0, True)


def made_wrong(kind: str, root: Path, paint: Paint) -> list[str | Path]:
    """The arguments of a wrong use, and the folder that it names."""
    data = root / "data"
    data.mkdir()
    if kind == "unknown class":
        for number, name in enumerate(("left", "right")):
            paint(data / "train" / name, number, 2)
        paint(data / "test" / "centre", 2, 2)
    elif kind == "no labels":
        paint(data, 0, 3)
    elif kind == "one class":
        paint(data / "left", 0, 3)
    elif kind == "one image a class":
        for number, name in enumerate(("left", "right")):
            paint(data / name, number, 1)
    elif kind == "too few labels":
        for number, name in enumerate(("left", "right")):
            paint(data / name, number, 3)
        return ["train", data, "--labels-per-class", "5"]
    elif kind == "unknown model":
        return ["train", "digits", "--model", "cnn_smal"]
    return {
        "unknown option": ["train", data, "--colour", "red"],
        "unknown command": ["trian", data],
        "no such data": ["train", root / "absent"],
        "unknown method": ["train", "digits", "--method", "magic"],
        "two limits": ["train", "digits", "--steps", "5", "--time-limit", "5m"],
        "no number": ["train", "digits", "--steps", "many"],
        "time": ["train", "digits", "--time-limit", "soon"],
        "no run": ["predict", root / "absent", data, "-o", root / "out.csv"],
        "not a run": ["report", data],
        "no data": ["train"],
    }.get(kind, ["train", data])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("unknown option", "--colour"),
        ("unknown command", "trian"),
        ("no such data", "no such file or folder"),
        ("unknown class", "'centre' is in test"),
        ("empty folder", "no images"),
        ("no labels", "no labelled"),
        ("one class", "at least two"),
        ("one image a class", "one image a class"),
        ("too few labels", "has 3 training labels, not 5"),
        ("unknown model", "did you mean cnn_small"),
        ("unknown method", "fixmatch"),
        ("two limits", "--steps"),
        ("no number", "--steps"),
        ("time", "10m"),
        ("no run", "no such run folder"),
        ("not a run", "config.yaml"),
        ("no data", "name DATA"),
    ],
)
def test_wrong_use_gets_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    paint: Paint,
    kind: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *made_wrong(kind, tmp_path, paint)) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1
    assert says in error


def test_check_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split_folders: Path
) -> None:
    (split_folders / "train" / "left" / "cut.jpg").write_bytes(b"\xff\xd8")
    copied = next((split_folders / "train" / "right").glob("*.png"))
    (split_folders / "test" / "right" / "leak.png").write_bytes(copied.read_bytes())
    assert call(monkeypatch, "check", split_folders) == 0
    shown = capsys.readouterr().out
    assert "train/left/cut.jpg" in shown
    assert "several splits" in shown
    assert call(monkeypatch, "check", split_folders, "--json") == 0
    checked = json.loads(capsys.readouterr().out)
    assert checked["counts"]["train"] == {"left": 5, "right": 4, "unlabelled": 24}
    assert [item["name"] for item in checked["unreadable"]] == ["train/left/cut.jpg"]
    assert len(checked["leaks"]) == 1


def test_train_then_predict(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    run, out = tmp_path / "run", tmp_path / "out.csv"
    assert call(monkeypatch, "train", split_folders, "--out", run, "--steps", "10", *QUICK) == 0
    shown = capsys.readouterr().out
    assert "labels only" in shown
    assert "interval" in shown
    assert str(run / "report.html") in shown.replace("\n", "")
    (split_folders / "test" / "left" / "bad.png").write_bytes(b"no picture")
    assert call(monkeypatch, "predict", run, split_folders / "test", "-o", out) == 0
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 13
    good = [row for row in rows if not row["error"]]
    assert len(good) == 12
    result = json.loads((run / "result.json").read_text())
    right = sum(row["label"] == Path(row["image"]).parent.name for row in good)
    assert round(right / 12, 4) == result["test"]["accuracy"]
    table = tmp_path / "out.parquet"
    assert call(monkeypatch, "predict", run, split_folders / "test", "-o", table) == 0
    said = pq.read_table(table).to_pylist()
    assert [row["label"] or "" for row in said] == [row["label"] for row in rows]
    assert [row["unknown"] for row in said if row["label"]] == [
        row["unknown"] == "true" for row in good
    ]
    assert call(monkeypatch, "report", run) == 0


def test_evaluate_tells_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
    paint: Paint,
) -> None:
    run, test = tmp_path / "run", split_folders / "test"
    assert call(monkeypatch, "train", split_folders, "--out", run, "--steps", "10", *QUICK) == 0
    paint(test / "middle", 2, 3)
    capsys.readouterr()
    every = ["--corruptions", "--perturbations", "--adversarial", "--stress", "--images", "2"]
    assert call(monkeypatch, "evaluate", run, test, *every) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for said in (
        "15 labelled images, 3 of them of classes that the classifier does not know",
        "balanced accuracy",
        "expected calibration error",
        "AUROC of strangers",
        "C-like error",
        "mean flip rate",
        "PGD",
        "viewpoint, turned",
        f"{run}/evaluations/1.json",
    ):
        assert said in shown
    assert "Warning" not in shown
    assert call(monkeypatch, "evaluate", run, split_folders / "train", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["learnt_from"] == {"images": 8}
    assert told["unknown"]["known_flagged"]["n"] == 8
    assert call(monkeypatch, "evaluate", run, split_folders / "train") == 0
    assert "Warning: the run has learnt from 8 of these images" in capsys.readouterr().out
    assert len(list((run / "evaluations").iterdir())) == 3
    for wrong, line in (
        (["evaluate", run, split_folders / "unlabelled"], "has no labelled images"),
        (["evaluate", tmp_path / "absent"], "no such run folder"),
        (["evaluate", run, "--images", "5"], "has no effect without"),
    ):
        assert call(monkeypatch, *wrong) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert line in said


def test_commands_take_what_check_takes_and_several_of_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    """`predict`, `evaluate` and `distill --data`: an address and a folder here, two at once."""
    run, quick = tmp_path / "run", ["--method", "supervised", "--steps", "2", *QUICK]
    assert call(monkeypatch, "train", split_folders, "--out", run, *quick) == 0
    blobs = [path.read_bytes() for path in sorted((split_folders / "test/left").iterdir())]
    images = pa.array([{"bytes": data, "path": None} for data in blobs])
    (tmp_path / "more").mkdir()
    table = pa.table({"image": images, "label": ["left"] * len(blobs)})
    pq.write_table(table, tmp_path / "more/new.parquet")
    (tmp_path / "more/about.txt").write_text("about")
    two = [split_folders / "test", f"file://{tmp_path}/more"]
    capsys.readouterr()
    assert call(monkeypatch, "predict", run, *two, "-o", tmp_path / "out.csv") == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["image"] for row in rows[-6:]] == [f"new.parquet#{row}" for row in range(6)]
    assert [row["label"] for row in rows[-6:]] == [row["label"] for row in rows[:6]]
    assert len(rows) == 18
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("left out: about.txt (not an image")
    assert call(monkeypatch, "evaluate", run, *two, "--json") == 0
    assert json.loads(capsys.readouterr().out)["images"] == 18
    student = ["--model", "cnn_small", "--img-size", "16", "--batch-size", "4", "--steps", "2"]
    for folder in ("train", "unlabelled"):
        student += ["--data", split_folders / folder]
    assert call(monkeypatch, "distill", run, *student, "--out", tmp_path / "student") == 0
    assert yaml.safe_load((tmp_path / "student/config.yaml").read_text())["data"] == [
        str(split_folders / folder) for folder in ("train", "unlabelled")
    ]


def test_a_recipe_gives_settings_and_options_win(
    monkeypatch: pytest.MonkeyPatch, split_folders: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "method: fixmatch\nsettings: {threshold: 0.8}\ntime_limit: 10m\nseed: 3\n"
        "img_size: 16\nbatch_size: 4\n"
    )
    run = tmp_path / "run"
    arguments = ["train", split_folders, "-c", recipe, "--out", run, "--steps", "4", "--seed", "5"]
    assert call(monkeypatch, *arguments) == 0
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["settings"] == {"threshold": 0.8}
    assert (config["steps"], config["time_limit"], config["seed"]) == (4, None, 5)


def test_progress_in_a_file_is_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], split_folders: Path
) -> None:
    assert call(monkeypatch, "check", split_folders) == 0
    assert "reading" not in capsys.readouterr().out  # it was quick
    monkeypatch.setattr(progress, "BETWEEN_LINES", 0.0)
    assert call(monkeypatch, "check", split_folders) == 0
    assert "reading: 3 of 44\n" in capsys.readouterr().out
    assert call(monkeypatch, "check", split_folders, "--json") == 0
    json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_exits_with_130_and_says_how_to_go_on(
    split_folders: Path, tmp_path: Path, how: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "fewlabels", "train", split_folders, "--out", run]
    process = subprocess.Popen(
        [*command, "--steps", "100000", *QUICK], stdout=subprocess.PIPE, text=True
    )
    for _ in range(1200):
        if (run / "checkpoints" / "last").exists():
            break
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(how)
    shown, _ = process.communicate()
    assert process.returncode == 130
    assert f"go on with: fewlabels train --resume {run}" in shown


def test_predict_wants_no_labels_and_destroys_no_table(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    run, table = tmp_path / "run", split_folders / "new.csv"
    assert call(monkeypatch, "train", split_folders, "--out", run, "--steps", "2", *QUICK) == 0
    names = sorted(path.name for path in (split_folders / "unlabelled").iterdir())[:3]
    table.write_text("image\n" + "".join(f"unlabelled/{name}\n" for name in names))
    before = table.read_text()
    assert call(monkeypatch, "predict", run, table, "-o", table) == 2
    assert table.read_text() == before
    out = tmp_path / "out.csv"
    assert call(monkeypatch, "predict", run, table, "-o", out) == 0
    assert [row["image"] for row in csv.DictReader(out.open())] == [
        f"unlabelled/{name}" for name in names
    ]
    assert not list(tmp_path.glob(".*.part"))


def test_augment_writes_a_contact_sheet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image, policy = tmp_path / "photo.png", tmp_path / "mine.txt"
    picture(0, 0).save(image)
    policy.write_text("flip(1)+rand(3)  # mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fewlabels.augment.views.compiled", lambda: False)
    assert call(monkeypatch, "augment", image) == 0
    assert capsys.readouterr().out.splitlines() == [
        "compiling the augmentation kernel: once, about 20 seconds",
        "sheet.png",
    ]
    longer = ["augment", image, "-o", "longer.PNG", "--augment", "turn", "--augment", policy]
    assert call(monkeypatch, *longer) == 0
    with Image.open("sheet.png") as one, Image.open("longer.PNG") as two:
        assert (one.format, two.format) == ("PNG", "PNG")
        assert one.width == two.width
        assert two.height > one.height + 200  # two rows more


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.png"], "absent.png: no such file"),
        (["."], "cannot be read"),
        (["text.png"], "text.png: not an image"),
        (["photo.png", "-o", "sheet.jpg"], "-o sheet.jpg: must end in .png"),
        (["photo.png", "-o", "absent/sheet.png"], "there is no folder absent"),
        (["photo.png", "-o", "folder.png"], "-o folder.png: cannot be written"),
        (["photo.png", "-o", "./photo.png"], "is the input"),
        (["photo.png", "-o", "link.png"], "is the input"),
        (["photo.png", "--augment", "flop"], "'flop' is no stage"),
        (["photo.png", "--seed", "-1"], "--seed"),
    ],
)
def test_augment_tells_what_is_wrong_and_leaves_files_alone(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(0, 0).save("photo.png")
    before = Path("photo.png").read_bytes()
    Path("text.png").write_text("no picture")
    Path("folder.png").mkdir()
    Path("link.png").symlink_to("photo.png")
    assert call(monkeypatch, "augment", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1
    assert says in error
    assert Path("photo.png").read_bytes() == before
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"photo.png", "text.png", "folder.png", "link.png"}


def test_a_wrong_recipe_is_told_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    recipe = tmp_path / "wrong.yaml"
    for text in ("out: here", "clock: 3", "1: 2", "batch_size: 4.5", "time_limit: [1]"):
        recipe.write_text(text)
        assert call(monkeypatch, "train", split_folders, "-c", recipe) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "wrong.yaml" in error or "--time-limit" in error


@pytest.mark.slow
def test_a_killed_run_goes_on_and_finishes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    split_folders: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    steps = ["--steps", "500", "--method", "fixmatch"]
    command = [sys.executable, "-m", "fewlabels", "train", split_folders, "--out", run]
    process = subprocess.Popen([*command, *steps, *QUICK], env=os.environ)
    state = run / "checkpoints" / "last" / "state.json"
    trial = run / "stages" / "labels-only"
    for _ in range(1200):  # until the second method has been saved in the middle
        if trial.exists() and state.exists() and '"fixmatch"' in state.read_text():
            break
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "result.json").exists()
    assert call(monkeypatch, "train", "--resume", run) == 0
    assert "fixmatch: goes on at step" in (run / "train.log").read_text()
    assert json.loads((run / "result.json").read_text())["test"]["n"] == 12
    stages = [json.loads(line)["stage"] for line in (run / "metrics.jsonl").open()]
    assert stages.count("labels only") == 20  # the stages that were done are not done again
