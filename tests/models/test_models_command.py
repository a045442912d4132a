"""`fewlabels models` as a user meets it."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fewlabels import cli
from fewlabels.models import listing


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Runs the command line in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["fewlabels", "models", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert isinstance(stop.value.code, int)
    return stop.value.code


def said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> str:
    """What it prints when all is well."""
    assert call(monkeypatch, *arguments) == 0
    out, error = capsys.readouterr()
    assert error == ""
    return out


def test_the_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(monkeypatch, capsys)
    row = next(line for line in out.splitlines() if line.startswith("resnet50 "))
    for cell in ("ResNet", "2015", "25.6 M", "4.09 G", "224", "80.9", "yes", "torchvision"):
        assert cell in row
    assert "arXiv:1512.03385" in row
    assert "cnn_small" in out
    assert "resnetrs420" not in out
    more = len(listing.entries()) - len(listing.known())
    assert f"{more:,} more of timm: --all" in out.splitlines()[-1]


def test_filters_search_all_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = said(monkeypatch, capsys, "--family", "resnet-rs", "--max-params", "40M")
    assert "resnetrs50" in out
    assert "resnetrs420" not in out
    assert " more " not in out
    assert "resnetrs420" in said(monkeypatch, capsys, "--all")


def test_the_list_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(said(monkeypatch, capsys, "--pretrained", "--family", "alexnet", "--json"))
    assert [row["name"] for row in rows] == ["alexnet"]
    assert rows[0]["parameters"] == 61_100_840
    assert rows[0]["pretrained"] is True


def test_the_list_is_quick() -> None:
    def cpu(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu("-m", "fewlabels", "models") for _ in range(3)) < 0.8


def test_one_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(monkeypatch, capsys, "lenet5")
    row = next(line for line in out.splitlines() if line.startswith("c3 "))
    assert " ".join(row.split()) == "c3 Conv2d 16 x 10 x 10 2.42 k 240 k 14 2"
    assert "lenet5 at 32 px, 10 classes: 62.0 k parameters, 652 k FLOPs" in out
    assert "LeNet, 1998, LeCun" in out
    assert "gradient" not in out


def test_another_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(monkeypatch, capsys, "mlp(width=8)", "--img-size", "16")
    assert "at 16 px" in out
    assert "6.14 k" in out  # 3·16·16·8 multiply-adds


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mlp(size=16)", 16),
        ("timm:test_vit(img_size=32)", 32),
        ("timm:test_vit", 160),
        ("resnet18", 224),
        ("efficientnet_b1", 240),
    ],
)
def test_the_size_that_a_name_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, side: int
) -> None:
    assert f"{name} at {side} px" in said(monkeypatch, capsys, name)


def test_one_model_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = json.loads(said(monkeypatch, capsys, "cnn_small", "--json", "--signals"))
    assert model["parameters"] == sum(layer["parameters"] for layer in model["layers"])
    assert model["flops"] == sum(layer["flops"] for layer in model["layers"])
    assert model["layers"][0]["field"] == 2
    assert model["warnings"] == []
    assert {signal["path"] for signal in model["signals"]} <= {
        layer["path"] for layer in model["layers"]
    }


def test_warnings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    deep = "mlp(layers=10,activation=tanh)"
    out = said(monkeypatch, capsys, deep, "--signals", "--init", "gaussian(0.01)")
    assert "the signal vanishes; try --init xavier" in out
    assert "█" in out
    out = said(monkeypatch, capsys, deep, "--signals", "--init", "xavier")
    assert "vanishes" not in out
    assert "stay within a factor of 1,000" in out


def test_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "lenet5.html"
    assert said(monkeypatch, capsys, "lenet5", "--signals", "-o", target).strip() == str(target)
    page = target.read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<figure>") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnt18"], "did you mean resnet18"),
        (["--family", "resnt"], "did you mean ResNet"),
        (["--max-params", "lots"], "--max-params lots: write a number"),
        (["--img-size", "32"], "--img-size needs the NAME"),
        (["--signals"], "--signals needs the NAME"),
        (["-o", "x.html"], "-o needs the NAME"),
        (["lenet5", "--all"], "--all is for the list"),
        (["lenet5", "--max-params", "5M"], "--max-params is for the list"),
        (["lenet5", "-o", "x.pdf"], "-o x.pdf: must end in .html"),
        (["lenet5", "-o", "absent/x.html"], "-o absent/x.html: there is no folder absent"),
        (["lenet5", "--init", "he"], "--init changes --signals only"),
        (["lenet5", "--signals", "--init", "zero"], "zero"),
        (["lenet5", "--img-size", "8"], "8 px; name another --img-size"),
        (["lenet5", "--img-size", "0"], "--img-size"),
    ],
)
def test_wrong_use_gets_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1
    assert says in error
    assert list(tmp_path.iterdir()) == []
