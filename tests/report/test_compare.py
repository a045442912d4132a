"""Runs side by side: what is told of small runs whose numbers are known, and what is refused."""

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from small_runs import finished, images

import fewlabels as fl
from fewlabels import cli
from fewlabels.errors import UserError
from fewlabels.evaluate.intervals import gain
from fewlabels.report.compare import compare
from fewlabels.report.compared import names, print_compared, verdict


def printed(told: dict[str, Any], columns: int) -> str:
    """What a terminal of so many columns shows."""
    out = io.StringIO()
    print_compared(told, Console(file=out, width=columns, force_terminal=True, no_color=True))
    return out.getvalue().replace("\x1b[2m", "").replace("\x1b[0m", "")


def test_the_difference_is_on_common_images(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", images(0, 30, 12))
    b = finished(
        tmp_path / "b", dict(reversed(images(5, 40, 7).items())), digest={"029.png": "changed"}
    )
    told = compare([a, b])
    (found,) = told["differences"]
    assert (found["n"], found["judged"]) == (24, [35, 30])  # 5 to 28
    assert found["difference"] == round(5 / 24, 4)  # b is right about 7 to 11 as well
    assert (found["won"], found["lost"]) == (5, 0)
    assert "b: only 24 images are common; it was judged on 35, a on 30" in printed(told, 80)
    (back,) = compare([a, b], against=b)["differences"]
    assert back["run"] == str(a)
    assert back["difference"] == -found["difference"]
    assert back["interval"] == [-x for x in reversed(found["interval"])]
    third = finished(tmp_path / "c", images(0, 30, 1))
    rows = compare([a, b], against=third)["runs"]
    assert [row["run"] for row in rows] == [str(third), str(a), str(b)]


def test_groups_are_read(tmp_path: Path) -> None:
    group = [i // 6 for i in range(30)]
    a = finished(tmp_path / "a", images(0, 30, 12), group=group)
    b = finished(tmp_path / "b", images(0, 30, 6), group=group)
    (found,) = compare([a, b])["differences"]
    right_a, right_b = ([i >= wrong for i in range(30)] for wrong in (12, 6))
    expected = gain(*map(np.array, (right_b, right_a, group)))
    assert found["interval"] == expected["interval"]


def test_runs_without_common_images_say_why(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", images(0, 9, 3))
    others = {
        "seed": finished(tmp_path / "b", images(9, 20, 10), seed=1),
        "data": finished(tmp_path / "c", images(9, 20, 10), data="birds"),
        "split": finished(tmp_path / "d", images(0, 9, 3), split="val"),
        "changed": finished(tmp_path / "e", images(9, 20, 10)),
        "gone": finished(tmp_path / "f", images(0, 9, 3)),
    }
    (others["gone"] / "predictions.parquet").unlink()
    told = compare([a, *others.values()])
    says = (
        "another seed draws other images",
        "those of birds",
        "validation images, the other on test",
        "have changed",
        "keeps no predictions",
    )
    for row, why in zip(told["differences"], says, strict=True):
        assert row["n"] == 0
        assert row["difference"] is row["interval"] is None
        assert why in row["why"]
        name = Path(row["run"]).name
        assert f"{name}: no image in common with a: {row['why']}" in printed(told, 80)
    assert verdict(told) == "Not comparable with a, image by image: b, c, d, e, f."


def test_runs_without_test_images_are_compared_on_validation_images(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / str(w), images(0, 20, w), split="val") for w in (9, 2))
    told = compare([a, b])
    (found,) = told["differences"]
    assert (found["n"], found["difference"]) == (20, 0.35)
    assert "20 val" in printed(told, 80)


def test_seeds(tmp_path: Path) -> None:
    runs = [finished(tmp_path / f"s{s}", images(0, 10, s), seed=s) for s in (1, 2, 3)]
    other = finished(tmp_path / "other", images(0, 10, 5), seed=4, lr=0.1)
    told = compare([*runs, other])
    (found,) = told["seeds"]
    assert (found["mean"], found["deviation"]) == (0.8, 0.1)  # 0.9, 0.8, 0.7
    assert found["runs"] == [str(run) for run in runs]
    assert "fixmatch, 3 seeds: 80.0 % ± 10.0 (s1, s2, s3)" in printed(told, 80)


def test_what_auto_has_found_is_told_and_is_no_seed(tmp_path: Path) -> None:
    rates = {"a": 0.0071234, "b": 0.0071231, "c": 0.0093}
    runs = []
    for seed, (name, rate) in enumerate(rates.items()):
        run = finished(tmp_path / name, images(0, 10, seed), seed=seed, lr="auto", precision="x")
        (run / "learning_rate.json").write_text(json.dumps({"chosen": rate}))
        runs.append(run)
    told = compare(runs)
    assert told["settings"]["lr"] == ["0.00712", "0.00712", "0.0093"]
    assert [one["runs"] for one in told["seeds"]] == [list(map(str, runs[:2]))]

    both = {"lr": None, "batch_size": "auto"}
    for name, size in (("d", 16), ("e", 64)):
        runs.append(finished(tmp_path / name, images(0, 10, 3), seed=3, **both))
        about = {"chosen": size, "lr": 0.003 * (size / 16) ** 0.5}
        (runs[-1] / "batch_size.json").write_text(json.dumps(about))
    given = finished(tmp_path / "f", images(0, 10, 4), seed=4, lr=0.1, batch_size="auto")
    (given / "batch_size.json").write_text(json.dumps({"chosen": 32, "lr": 0.0042}))
    told = compare([*runs[3:], given])
    assert told["settings"] == {
        "seed": ["3", "3", "4"],
        "lr": ["0.003", "0.006", "0.1"],
        "batch_size": ["16", "64", "32"],
    }
    assert not told["seeds"]


def test_a_form_that_was_measured_does_not_part_seeds(tmp_path: Path) -> None:
    runs = []
    for seed, precision in enumerate(("32-true", "bf16-mixed", "bf16-mixed")):
        run = finished(tmp_path / str(seed), images(0, 10, seed), seed=seed, precision=precision)
        (run / "checkpoints").mkdir()
        asked = {"precision": "auto" if seed < 2 else precision}
        (run / "checkpoints" / "settings.json").write_text(json.dumps({"asked": asked}))
        runs.append(run)
    told = compare(runs)
    assert [one["runs"] for one in told["seeds"]] == [list(map(str, runs[:2]))]
    assert told["settings"]["precision"] == ["32-true", "bf16-mixed", "bf16-mixed"]


def test_only_settings_that_differ_are_told(tmp_path: Path) -> None:
    a = finished(tmp_path / "a", images(0, 9, 3), lr=0.03, settings={})
    b = finished(tmp_path / "b", images(0, 9, 3), lr=0.1, settings={"threshold": 0.8})
    told = compare([a, b])
    assert told["settings"] == {"lr": ["0.03", "0.1"], "settings.threshold": ["", "0.8"]}
    assert "lr: 0.03 (a) | 0.1 (b)\n  settings.threshold: - (a) | 0.8 (b)\n" in printed(told, 80)


def test_the_verdict(tmp_path: Path) -> None:
    base = finished(tmp_path / "base", images(0, 60, 20))
    runs = {w: finished(tmp_path / f"wrong{w}", images(0, 60, w)) for w in (1, 2, 19, 40)}
    assert verdict(compare([base, *runs.values()])) == (
        "More accurate than base: wrong1, wrong2. Less accurate than base: wrong40. "
        "No different from base, as far as these images tell: wrong19."
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_no_number_is_broken_over_lines(tmp_path: Path, columns: int) -> None:
    long = "a-folder-with-a-name-that-is-far-too-long-for-a-column-of-a-table-in-a-terminal"
    a = finished(tmp_path / long, images(0, 3600, 600), method="meta_pseudo_labels")
    b = finished(tmp_path / "b[red]", images(0, 3600, 300), method="supervised", seed=1)
    text = printed(compare([a, b]), columns)
    lines = text.splitlines()
    assert any(line.rstrip().endswith("83.3 %   82.1 to 84.5   3,600") for line in lines)
    assert any(line.startswith("b[red]") and "91.7 %" in line for line in lines)
    span = r"\+\d\.\d to \+\d\.\d"
    assert re.search(rf"\+8\.3 +{span} +{span} +3,600 +300 +0", text)
    scores, _, rest = text.partition("Difference")
    assert all(len(line) <= columns for line in scores.splitlines())
    ends = [line.split("  ")[0].strip() for line in scores.splitlines()[1:]]
    assert "".join(ends[: ends.index("b[red]")]) == long  # broken, and nothing lost
    assert long in rest


def test_what_it_took_is_told_where_there_is_room(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / x, images(0, 9, 3), method=f"{x}_method") for x in "ab")
    assert re.search(r"\nb +b_method .* 9 +1 min 11 s +1,234\n", printed(compare([a, b]), 80))
    assert "1 min 11 s" not in printed(compare([a, b]), 60)


def test_names_are_as_short_as_they_can_be() -> None:
    def short(*folders: str) -> list[str]:
        return list(names(folders).values())

    assert short("/x/out/fixmatch", "/x/out/uda/") == ["fixmatch", "uda"]
    assert short("runs/1", "runs/2") == ["runs/1", "runs/2"]
    assert short("/x/a/run", "/x/b/run", "/x/b/c") == ["a/run", "b/run", "b/c"]


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a = finished(tmp_path / "a[red]", images(0, 30, 12))
    b = finished(tmp_path / "b", images(0, 30, 6))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fewlabels", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert isinstance(stop.value.code, int)
        return stop.value.code, *capsys.readouterr()

    code, out, _ = call(a, b, "--json")
    told = json.loads(out)
    assert code == 0
    assert told == fl.compare([a, str(b)])
    code, out, _ = call(b, "--against", a)
    assert code == 0
    assert "Difference from a[red]" in out
    assert "+20.0" in out
    code, out, _ = call(a, b, "-o", tmp_path / "page.html")
    assert code == 0
    assert out.endswith(f"{tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").is_file()
    for bad in ("page.pdf", "none/page.html"):
        code, out, error = call(a, b, "-o", tmp_path / bad)
        assert (code, out) == (2, "")
        assert error.count("\n") == 1
        assert bad in error
    assert call(a)[0] == 2


def test_bad_input(tmp_path: Path) -> None:
    a, b = (finished(tmp_path / x, images(0, 9, 3)) for x in "ab")
    classes = finished(tmp_path / "c", images(0, 9, 2), classes=["ibis", "stork"])
    swapped = finished(tmp_path / "d", images(0, 9, 2), classes=["stork", "heron"])
    cut = finished(tmp_path / "cut", images(0, 9, 2))
    (cut / "result.json").unlink()
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(a)
    shutil.copy(a / "config.yaml", tmp_path / "file")
    assert compare([a, cut, b])["unfinished"] == [str(cut)]
    assert "cut: not finished, left out" in printed(compare([a, cut, b]), 120)
    cases: list[tuple[list[Path], str]] = [
        ([], "name two runs or more"),
        ([a], "name two runs or more"),
        ([a, a], "a is named twice"),
        ([a, b, tmp_path / "link"], "link and .*a are one"),
        ([a, cut], "not finished: .*cut$"),
        ([a, classes], "different classes .*c has 'ibis', .*a has not"),
        ([a, swapped], "d has the classes of .*a in another order"),
        ([a, tmp_path / "none"], "none: no such run folder"),
        ([a, tmp_path / "file"], "file: no such run folder"),
        ([a, tmp_path / "photos"], "photos is no run folder"),
    ]
    for runs, says in cases:
        with pytest.raises(UserError, match=says) as error:
            compare(runs)
        assert "\n" not in str(error.value)
    for against, says in ((cut, "cut: has not finished"), (tmp_path / "none", "none: no such run")):
        with pytest.raises(UserError, match=says):
            compare([a, b], against=against)
