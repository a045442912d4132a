"""`explain` from a run to the page, and what it says when something is missing."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from PIL import Image

from fewlabels import api, cli
from fewlabels.errors import UserError
from fewlabels.evaluate.explain import gather
from fewlabels.evaluate.explain.images import Given, Learnt, read_given, read_learnt
from fewlabels.models.cnn_small import CnnSmall
from fewlabels.models.ensemble import Ensemble, Member
from fewlabels.models.neighbours import Neighbours
from fewlabels.pixels.preprocess import Preprocess
from fewlabels.pool.source import content_digest

QUICK = {"steps": 8, "batch_size": 8, "img_size": 16, "model": "cnn_small", "device": "cpu"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run beside its images, and new ones, one of them broken."""
    root = tmp_path_factory.mktemp("explain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(root / "cache"))
        for kind, name in enumerate(("crab", "a <b>")):
            for split, count in (("train", 5), ("test", 2)):
                folder = root / "photos" / split / name
                folder.mkdir(parents=True)
                for seed in range(count):
                    picture(kind, 100 * len(split) + seed).save(folder / f"{seed}.png")
        (root / "new").mkdir()
        for seed in range(3):
            picture(seed % 2, 900 + seed).resize((20, 12)).save(root / "new" / f"new <{seed}>.png")
        (root / "new" / "broken.jpg").write_bytes(b"no image")
        api.train(root / "photos", method="supervised", out=root / "run", **QUICK)
    return root


def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, known = tmp_path / "why", trained / "photos" / "train" / "crab" / "0.png"
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["explain", trained / "run", trained / "new", known, "-o", out]
        patch.setattr(sys, "argv", ["fewlabels", *map(str, arguments), "--class", "crab"])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    broken = f"left out: {trained / 'new' / 'broken.jpg'} (not an image"
    assert broken in said
    assert f"{out / 'explanation.html'}: 4 images\n" in said
    page = (out / "explanation.html").read_text()
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert "<script" not in page
    assert "<b>." not in page
    assert "broken.jpg" in page
    assert len(page) < 400_000
    numbers = json.loads((out / "explanation.json").read_text())
    assert numbers["skipped"][0]["name"].endswith("broken.jpg")
    assert [check["n"] for check in numbers["checks"]] == [4] * 4
    predictions = api.load(trained / "run").predict([trained / "new" / "new <0>.png", known])
    for image, said in ((0, predictions[0]), (3, predictions[1])):
        assert numbers["images"][image]["predicted"] == said.label
        assert numbers["images"][image]["confidence"] == pytest.approx(said.confidence, abs=1e-5)
    for image in numbers["images"]:
        maps = 4 if image["predicted"] == "crab" else 8
        assert len(image["maps"]) == maps
        files = sorted(path.name for path in (out / image["folder"]).iterdir())
        assert len(files) == 1 + maps + 3  # the picture, maps, stages
        assert "grad_cam.png" in files
        for name in files:
            with Image.open(out / image["folder"] / name) as shown:
                assert min(shown.size) > 8
        assert len(image["alike"]) == 5
        cosines = [other["cosine"] for other in image["alike"]]
        assert cosines == sorted(cosines, reverse=True)
    # a labelled image is not its own neighbour
    assert numbers["images"][3]["name"] == str(known)
    assert all(other["name"] != "train/crab/0.png" for other in numbers["images"][3]["alike"])
    assert "It is itself one of the labelled images" in page
    assert (out / "filters.png").is_file()
    assert len(list(out.glob("channel-*.png"))) == 6
    # what is there is not touched
    with pytest.raises(UserError, match="not empty"):
        api.explain(trained / "run", known, out=out)


def test_confidence_is_tempered_as_predictions_are(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run" / "artefact", tmp_path / "shipped")
    about = tmp_path / "shipped" / "classifier.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"temperature": 3.0}))
    image = trained / "new" / "new <0>.png"
    found = api.explain(tmp_path / "shipped", image, out=tmp_path / "why", methods=["occlusion"])
    (said,) = api.load(tmp_path / "shipped").predict(image)
    (plain,) = api.load(trained / "run").predict(image)
    assert found.explanation.images[0].probabilities.max() == pytest.approx(said.confidence)
    assert said.confidence < plain.confidence


def test_the_first_images_alone_with_one_method(trained: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    found = api.explain(
        trained / "run",
        [trained / "new"],
        out=tmp_path / "why",
        methods=["occlusion"],
        images=2,
        progress=lambda what, done, of: heard.append(what),
    )
    assert found.more
    assert [heat.method for heat in found.explanation.images[0].heats] == ["occlusion"]
    assert len(found.explanation.images) == 2
    assert heard == ["maps: occlusion", "checks: occlusion"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"methods": ["magic"]}, "--method magic: must be one of grad_cam"),
        ({"target": "crabs"}, "--class crabs: no such class; did you mean crab"),
        ({"images": 0}, "--images 0: must be at least 1"),
        ({"paths": "new/broken.jpg"}, "broken.jpg: not an image"),
        ({"paths": "absent.png"}, "absent.png: no such file"),
    ],
)
def test_wrong_use_is_one_line(
    trained: Path, tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    paths = trained / str(settings.pop("paths", "new"))
    with pytest.raises(UserError) as error:
        api.explain(trained / "run", paths, out=tmp_path / "why", **settings)  # type: ignore[arg-type]
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "why").exists()


def test_without_captum_it_says_what_to_install(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(UserError, match=r"pip install 'fewlabels\[explain\]'"):
        api.explain(trained / "run", trained / "new", out=tmp_path / "why")


def test_where_the_images_are_gone_it_says_so_and_goes_on(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run", tmp_path / "run")
    config = (tmp_path / "run" / "config.yaml").read_text()
    gone = config.replace(str(trained / "photos"), str(tmp_path / "gone"))
    (tmp_path / "run" / "config.yaml").write_text(gone)
    found = api.explain(
        tmp_path / "run", trained / "new", out=tmp_path / "why", methods=["grad_cam"]
    )
    assert "the run's images are gone" in found.explanation.notes[-1]
    assert not found.explanation.images[0].alike
    assert not found.explanation.channels
    page = found.path.read_text()
    assert "The run&#39;s images are gone" in page
    assert "It looks like these" not in page


def test_the_learnt_images_are_those_of_the_run(trained: Path, tmp_path: Path) -> None:
    learnt = read_learnt(trained / "run", 16)
    names = {f"train/{label}/{i}.png" for label in ("crab", "a <b>") for i in range(5)}
    assert set(learnt.names) == names  # and no test image
    classes = json.loads((trained / "run" / "classes.json").read_text())
    for name, label in zip(learnt.names, learnt.labels, strict=True):
        assert name.split("/")[1] == classes[label]
    assert learnt.note == ""
    assert learnt.pixels is not None
    first = np.asarray(Image.open(trained / "photos" / learnt.names[0]).convert("RGB"))
    np.testing.assert_array_equal(learnt.pixels[0], first)
    # one that is another image today is no witness
    shutil.copytree(trained, tmp_path / "all", dirs_exist_ok=True)
    config = tmp_path / "all" / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(tmp_path / "all")))
    picture(1, 77).save(tmp_path / "all" / "photos" / "train" / "crab" / "0.png")
    fewer = read_learnt(tmp_path / "all" / "run", 16)
    assert set(fewer.names) == names - {"train/crab/0.png"}
    assert fewer.note == "1 of the run's images are gone or have changed"
    assert "does not say" in read_learnt(tmp_path, 16).note


def test_reading_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    picture(0, 1).save(tmp_path / "fine.png")
    data = (tmp_path / "fine.png").read_bytes()
    found = [("gone", tmp_path / "gone.png"), ("torn", data[:60]), ("fine", data), ("next", data)]
    given = read_given(iter(found), 16, 1)
    assert given.names == ("fine",)
    assert given.digests == (content_digest(data),)
    assert [item.name for item in given.skipped] == ["gone", "torn"]
    assert given.skipped[0].reason == "No such file or directory"
    assert given.more
    assert not read_given(iter(found), 16, 2).more


def test_models_without_maps_are_explained_too(trained: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWLABELS_CACHE", str(trained / "cache"))
        quick = QUICK | {"model": "mlp", "steps": 2}
        api.train(trained / "photos", method="supervised", out=tmp_path / "run", **quick)
    found = api.explain(tmp_path / "run", trained / "new", out=tmp_path / "why").explanation
    shown = [heat.method for heat in found.images[0].heats]
    assert shown == ["integrated_gradients", "occlusion"]
    assert found.notes == ("Grad-CAM and guided Grad-CAM left out: MLP makes no maps of an image",)
    with pytest.raises(
        UserError, match="--method grad_cam: has no meaning here: MLP makes no maps"
    ):
        api.explain(tmp_path / "run", trained / "new", out=tmp_path / "other", methods=["grad_cam"])
    assert not (tmp_path / "other").exists()


def test_the_model_of_a_classifier_is_as_before(trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = CnnSmall(2).train()
    model.stem.eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    given = read_given(iter([("a", trained / "new" / "new <0>.png")]), 16, 1)
    learnt = read_learnt(trained / "run", 16)
    gather.explain(model, Preprocess(16), ("crab", "b"), given, learnt, target=1)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def of(model: torch.nn.Module) -> gather.Explanation:
    """Three images of noise, explained beside six labelled ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    names = tuple("abcdefghi")
    given = Given(names[:3], names[:3], pixels[:3], (), False)
    learnt = Learnt(names[3:], names[3:], (0, 1, 2) * 2, pixels[3:])
    return gather.explain(model, Preprocess(16), ("x", "y", "z"), given, learnt)


def test_an_ensemble_is_explained_by_what_needs_no_map() -> None:
    torch.manual_seed(0)
    plain = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found = of(Ensemble([Member(CnnSmall(3), 16, *plain, *plain, range(3)) for _ in range(2)]))
    assert [check.method for check in found.checks] == ["integrated_gradients", "occlusion"]
    assert all(heat.values.any() for image in found.images for heat in image.heats)
    assert found.stages == ()
    assert found.channels == ()
    assert ["ensemble" in note for note in found.notes] == [True, True]


def test_a_vote_of_neighbours_is_explained_without_gradients() -> None:
    torch.manual_seed(0)
    model, votes = CnnSmall(3), Neighbours(3, 6, 96, 5)
    model.head = votes  # type: ignore[assignment]
    votes.remember(torch.rand(6, 96), torch.arange(6) % 3)
    found = of(model)
    assert [check.method for check in found.checks] == ["occlusion"]
    assert any(heat.values.any() for image in found.images for heat in image.heats)
    assert found.channels == ()
    assert len(found.stages) == 3
    left_out = "Grad-CAM and guided Grad-CAM and integrated gradients left out: where an image's"
    assert found.notes[0].startswith(left_out)
