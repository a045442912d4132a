"""The listing: complete, true to what the libraries publish, found in a moment."""

import subprocess
import sys
import time
from collections import Counter

import pytest
import torch

from fewlabels.errors import UserError
from fewlabels.models import anatomy, catalog, from_torchvision, listing
from fewlabels.models.listing import Entry
from fewlabels.torchvision_repair import repair

OURS = [entry for entry in listing.entries() if entry.source == "fewlabels"]


def test_every_name_once() -> None:
    names = [entry.name for entry in listing.entries()]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_it_holds_every_source() -> None:
    """Ours and torchvision's exactly; timm's as of the version that it was made with."""
    by_source: dict[str, list[str]] = {}
    for entry in listing.entries():
        by_source.setdefault(entry.source, []).append(entry.name)
    assert list(by_source) == ["fewlabels", "torchvision", "timm"]
    assert by_source["fewlabels"] == list(catalog.OURS)
    assert set(by_source["torchvision"]) <= set(from_torchvision.names())
    assert len(by_source["torchvision"]) >= 80
    assert len(by_source["timm"]) > 1300


def test_names_are_what_the_catalog_takes() -> None:
    """A bare name leads to the first source that has it; timm: to the other."""
    repair()
    import timm

    earlier = {entry.name for entry in listing.entries() if entry.source != "timm"}
    known = set(timm.list_models())
    for entry in listing.entries():
        if entry.source == "timm":
            bare = entry.name.removeprefix("timm:")
            assert (bare in earlier) == (bare != entry.name)
    assert sum(e.name.removeprefix("timm:") in known for e in listing.entries()) > 1300


def test_the_selection_exists() -> None:
    shown = listing.known()
    assert {entry.name for entry in shown if entry.source == "timm"} == set(listing.KNOWN)
    assert len(shown) < 130


def test_parameters_are_those_that_torchvision_publishes() -> None:
    repair()
    from torchvision.models import get_model_weights

    checked = 0
    for entry in listing.entries():
        if entry.source == "torchvision" and entry.name in from_torchvision.names():
            meta = get_model_weights(entry.name).DEFAULT.meta
            assert entry.parameters is not None
            assert entry.flops is not None
            assert entry.top1 == meta["_metrics"]["ImageNet-1K"]["acc@1"]
            if entry.name == "inception_v3":  # published with its auxiliary classifier
                assert entry.parameters == meta["num_params"] - 3_326_696
                continue
            assert entry.parameters == meta["num_params"], entry.name
            assert entry.flops / 1e9 == pytest.approx(meta["_ops"], rel=0.01, abs=1e-3), entry.name
            checked += 1
    assert checked >= 79


@pytest.mark.parametrize(
    "entry", [e for e in listing.entries() if e.source == "fewlabels"], ids=str
)
def test_ours_are_counted_as_they_are(entry: Entry) -> None:
    with torch.device("meta"):
        model = catalog.build(entry.name, entry.classes, "none").model
    total = anatomy.totals(model, entry.size)
    assert (total.parameters, total.flops) == (entry.parameters, entry.flops)


def test_values() -> None:
    for entry in listing.entries():
        assert entry.family
        assert entry.year is None or 1958 <= entry.year <= 2030
        assert entry.parameters is None or entry.parameters > 0
        assert entry.flops is None or entry.flops > 0
        assert 8 <= entry.size <= 2048
        assert entry.top1 is None or 10 < entry.top1 < 100
        assert entry.classes in (10, 1000)
    assert sum(entry.parameters is None for entry in listing.entries()) < 20
    assert sum(not entry.paper for entry in listing.entries()) < 120


def test_the_field_and_the_paper() -> None:
    found = listing.entry("resnet18")
    assert found is not None
    assert (found.source, found.family, found.year) == ("torchvision", "ResNet", 2015)
    assert "1512.03385" in found.paper


@pytest.mark.parametrize(
    ("name", "of", "source"),
    [
        ("resnet18", "resnet18", "torchvision"),
        ("torchvision:resnet18", "resnet18", "torchvision"),
        ("timm:resnet18", "timm:resnet18", "timm"),
        ("timm:vit_tiny_patch16_224", "vit_tiny_patch16_224", "timm"),
        ("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", "vit_tiny_patch16_224", "timm"),
        ("mlp(layers=10,activation=tanh)", "mlp", "fewlabels"),
        ("efficientnet_l2", "efficientnet_l2", "fewlabels"),
        ("timm:efficientnet_l2", "timm:efficientnet_l2", "timm"),
    ],
)
def test_the_entry_of_a_name(name: str, of: str, source: str) -> None:
    found = listing.entry(name)
    assert found is not None
    assert (found.name, found.source) == (of, source)


@pytest.mark.parametrize("name", ["q7", "torchvision:cnn_small", "timm:cnn_small", "local-dir:x"])
def test_no_entry(name: str) -> None:
    assert listing.entry(name) is None


def test_find() -> None:
    small = listing.find(max_params=6_000_000, family="vit")
    assert "vit_tiny_patch16_224" in [entry.name for entry in small]
    assert all(e.parameters is not None and e.parameters <= 6_000_000 for e in small)
    assert {entry.family for entry in small} == {"ViT"}
    assert listing.find(family="efficientnet-V2") == listing.find(family="EfficientNet v2") != []
    with_weights = listing.find(pretrained=True)
    assert all(entry.pretrained for entry in with_weights)
    assert 1000 < len(with_weights) < len(listing.find()) == len(listing.entries())


def test_an_unknown_family_is_told() -> None:
    with pytest.raises(UserError, match="--family resnt: no such family; did you mean ResNet"):
        listing.find(family="resnt")
    with pytest.raises(UserError, match="--family 99: no such family; see `fewlabels models --all"):
        listing.find(family="99")


@pytest.mark.parametrize(
    ("text", "value"),
    [("5M", 5_000_000), ("500k", 500_000), ("1.5G", 1_500_000_000), ("1B", 10**9), ("42", 42)],
)
def test_amounts(text: str, value: int) -> None:
    assert listing.amount(text) == value


@pytest.mark.parametrize("text", ["", "lots", "-5M", "5 MB", "M"])
def test_no_amounts(text: str) -> None:
    with pytest.raises(UserError, match="--max-params"):
        listing.amount(text)


def test_reading_is_quick_and_needs_no_torch() -> None:
    def once() -> float:
        began = time.process_time()
        listing.entries.__wrapped__()
        return time.process_time() - began

    assert min(once() for _ in range(3)) < 0.05
    code = """
import sys
from fewlabels.models import listing
import fewlabels.report.listing
assert len(listing.entries()) > 1000
print([m for m in ("torch", "timm", "numpy", "jinja2") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
