from pathlib import Path

import pytest
from conftest import call
from test_backbone import make_run, names


def test_it_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "export", "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_a_backbone_is_put_into_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", "timm:test_resnet", 32, size=32)
    for _ in range(2):  # and again, over the first
        assert call(monkeypatch, "export", "run", "--format", "backbone") == 0
        assert capsys.readouterr().out.splitlines() == [
            "run/backbone: model.safetensors, config.json, README.md",
            "timm's test_resnet, 3 classes, 32 px: built from these files it answers as the run "
            "does",
            "but for what weights cannot tell: trained at 32 px without the stride of conv1.0, "
            "maxpool; the README's code takes them out",
        ]
    assert names(tmp_path / "run" / "backbone") == ["README.md", "config.json", "model.safetensors"]


def test_or_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, out = make_run(tmp_path / "run", "timm:test_resnet"), tmp_path / "new" / "[odd] name"
    assert call(monkeypatch, "export", run, "--format", "backbone", "-o", out) == 0
    assert capsys.readouterr().out.startswith(f"{out}: model.safetensors, ")
    assert (out / "README.md").exists()
    assert not (run / "backbone").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["ours"], "--format"),
        (["ours", "--format", "caffe"], "--format caffe: there is only backbone"),
        (["ours", "--format", "backbone"], "cnn_small, which is ours"),
        (["absent", "--format", "backbone"], "absent: no such run folder"),
        (["photos", "--format", "backbone"], "photos: is no run folder"),
        (["run", "--format", "backbone", "-o", "run"], "-o run: holds other files (checkpoints)"),
        (["run", "--format", "backbone", "-o", "file"], "-o file: is a file"),
        (["run", "--format", "backbone", "-o", "file/below"], "-o file/below: cannot be written"),
    ],
)
def test_wrong_use_gets_one_line_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "ours", "cnn_small", 32)
    make_run(tmp_path / "run", "timm:test_resnet")
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("mine")
    assert call(monkeypatch, "export", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fewlabels: ")
    assert error.count("\n") == 1
    assert says in error
    assert names(tmp_path) == ["file", "ours", "photos", "run"]
    assert names(tmp_path / "run") == ["checkpoints", "config.yaml"]
    assert names(tmp_path / "ours") == ["checkpoints", "config.yaml"]
