"""`hf:` by the real `datasets`, on repositories of its format that the tests make; nothing is
fetched."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pool import Pool

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_warning()


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def shard(
    path: Path, first: int, columns: dict[str, list[Any]], kinds: dict[str, Any] | None = None
) -> None:
    """As `Dataset.to_parquet` writes it: row r shows the red value first + r."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(next(iter(columns.values())))
    cells = [{"bytes": png(first + row), "path": f"{row}.png"} for row in range(count)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), **columns})
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    for name, values in columns.items():
        dtype = "int64" if isinstance(values[0], int) else "string"
        features[name] = (kinds or {}).get(name, {"dtype": dtype, "_type": "Value"})
    about = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), path)


ANIMALS = {"names": ["zebra", "ant"], "_type": "ClassLabel"}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two splits of a set in two shards, one of validation images and one without labels."""
    root = tmp_path / "animals"
    for name, first, labels in (
        ("train-00000-of-00002", 0, [0, 1, -1]),
        ("train-00001-of-00002", 10, [1]),
        ("validation-00000-of-00001", 20, [1, 0]),
        ("test-00000-of-00001", 30, [0]),
        ("unsupervised-00000-of-00001", 40, [0, 0]),
    ):
        shard(root / f"data/{name}.parquet", first, {"label": labels}, {"label": ANIMALS})
    splits = ("train", "validation", "test", "unsupervised")
    lines = [f"  - split: {split}\n    path: data/{split}-*" for split in splits]
    text = "---\nconfigs:\n- config_name: default\n  data_files:\n" + "\n".join(lines) + "\n---\n"
    (root / "README.md").write_text(text)
    return root


def red(data: bytes) -> int:
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0])


def test_splits_labels_and_encoded_images(repository: Path) -> None:
    pool = Pool.scan(f"hf:{repository}")
    assert pool.origin == f"hf:{repository}"
    assert pool.classes == ("ant", "zebra")
    found = {}
    for row in range(len(pool)):
        data = pool.source.read(row)
        label = pool.classes[pool.label[row]] if pool.label[row] >= 0 else ""
        found[red(data)] = (str(pool.split[row]), label, pool.source.name(row))
        assert data == png(red(data))  # the file's own bytes
    assert found == {
        0: ("train", "zebra", "train#0"),
        1: ("train", "ant", "train#1"),
        2: ("train", "", "train#2"),
        10: ("train", "ant", "train#3"),
        20: ("val", "ant", "validation#0"),
        21: ("val", "zebra", "validation#1"),
        30: ("test", "zebra", "test#0"),
        40: ("train", "", "unsupervised#0"),
        41: ("train", "", "unsupervised#1"),
    }


def test_one_split_alone_is_still_to_be_split(repository: Path) -> None:
    pool = Pool.scan(f"hf:{repository}?split=validation")
    assert pool.split.tolist() == ["", ""]
    shard(repository.parent / "one/train.parquet", 0, {"label": ["a", "b"]})
    assert Pool.scan(f"hf:{repository.parent}/one").split.tolist() == ["", ""]


def test_an_image_folder(tmp_path: Path) -> None:
    for side, label, value in (("train", "ant", 1), ("train", "bee", 2), ("test", "bee", 3)):
        folder = tmp_path / "photos" / side / label
        folder.mkdir(parents=True)
        (folder / f"{value}.png").write_bytes(png(value))
    pool = Pool.scan(f"hf:{tmp_path}/photos")
    assert pool.classes == ("ant", "bee")
    assert pool.split.tolist() == ["train", "train", "test"]
    assert pool.label.tolist() == [0, 1, 1]
    assert [red(pool.source.read(row)) for row in range(3)] == [1, 2, 3]


def test_several_label_columns_are_named_and_one_is_chosen(tmp_path: Path) -> None:
    kinds = {"fine": ANIMALS, "coarse": {"names": ["big", "small"], "_type": "ClassLabel"}}
    columns = {"fine": [0, 1], "coarse": [0, 1], "origin": ["x", "x"]}
    shard(tmp_path / "set/train.parquet", 0, columns, kinds)
    data = f"hf:{tmp_path}/set"
    assert user_error(data) == (
        f"{data}: 2 columns of labels, fine, coarse; choose one: {data}?label=fine"
    )
    assert Pool.scan(f"{data}?label=coarse").classes == ("big", "small")
    pool = Pool.scan(f"{data}?label=fine&group=origin")
    assert pool.group is not None
    assert pool.group.tolist() == [0, 0]


def test_labels_that_are_text(tmp_path: Path) -> None:
    shard(tmp_path / "set/train.parquet", 0, {"label": ["b", "", "a"]})
    pool = Pool.scan(f"hf:{tmp_path}/set")
    assert pool.classes == ("a", "b")
    assert pool.label.tolist() == [1, -1, 0]
    assert pool.split.tolist() == ["", "train", ""]


def test_splits_of_unknown_names_are_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("train", "extra"):
        shard(tmp_path / f"set/{name}.parquet", 0, {"label": ["a", "b"]})
    lines = [f"  - split: {split}\n    path: {split}.parquet" for split in ("train", "extra")]
    text = "---\nconfigs:\n- config_name: default\n  data_files:\n" + "\n".join(lines) + "\n---\n"
    (tmp_path / "set/README.md").write_text(text)
    pool = Pool.scan(f"hf:{tmp_path}/set")
    assert len(pool) == 2
    assert [skipped.name for skipped in pool.skipped] == ["extra"]
    assert len(Pool.scan(f"hf:{tmp_path}/set?split=extra")) == 2


def user_error(data: str) -> str:
    with pytest.raises(UserError) as error:
        Pool.scan(data)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(data)
    return str(error.value)


def test_user_errors(tmp_path: Path, repository: Path) -> None:
    assert user_error("hf:") == "hf: names no data set"
    assert "write hf:<id>[:config][@revision]" in user_error("hf:a:b:c@")
    assert "after ? comes name=value" in user_error(f"hf:{repository}?fine")
    assert "takes no 'labels'; it takes image, label" in user_error(f"hf:{repository}?labels=x")
    assert "no column 'fine'" in user_error(f"hf:{repository}?label=fine")
    assert "'label' is no column of images" in user_error(f"hf:{repository}?image=label")
    assert "no split 'dev'; there are train" in user_error(f"hf:{repository}?split=dev")
    assert "cannot be loaded" in user_error(f"hf:{repository}:huge")
    assert "cannot be loaded" in user_error("hf:no such/name")
    shard(tmp_path / "set/train.parquet", 0, {"note": ["x", "y"]})
    assert "no column of labels (found: image, note)" in user_error(f"hf:{tmp_path}/set")
    shard(tmp_path / "two/a.parquet", 0, {"label": ["x", "y"]})
    shard(tmp_path / "two/b.parquet", 0, {"label": ["x", "y"]})
    lines = "  - split: a\n    path: a.parquet\n  - split: b\n    path: b.parquet\n"
    text = f"---\nconfigs:\n- config_name: default\n  data_files:\n{lines}---\n"
    (tmp_path / "two/README.md").write_text(text)
    assert "no images in a split of a known name (a, b)" in user_error(f"hf:{tmp_path}/two")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "offline mode is enabled"),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, "Connection refused"),
    ],
)
def test_an_id_without_network_is_one_line(
    tmp_path: Path, setting: dict[str, str], why: str
) -> None:
    code = """
from fewlabels.errors import UserError
from fewlabels.pool import Pool
try:
    Pool.scan("hf:no-one/no-such-set:plain@main")
except UserError as error:
    print(error)
"""
    environment = os.environ | {"HF_HOME": str(tmp_path)} | setting
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    (said,) = done.stdout.splitlines()
    begin = "hf:no-one/no-such-set:plain@main: is not here yet, and cannot be downloaded; the hub"
    assert said.startswith(f"{begin} cannot be reached (")
    assert why in said
    assert said.endswith("; check the connection")
    assert done.stderr == ""  # the hub's client tells of each further attempt


def test_what_is_here_is_read_without_the_hub(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is set for that is as it was afterwards, also where it fails."""
    import huggingface_hub

    homes = (datasets.config, huggingface_hub.constants)
    for home in homes:
        monkeypatch.setattr(home, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    real, seen = datasets.load_dataset, []

    def load(name: str, *arguments: Any, **options: Any) -> Any:
        seen.append([home.HF_HUB_OFFLINE for home in homes])
        if name == "x/z":
            raise OSError("no such set")
        return real(str(repository))

    monkeypatch.setattr(datasets, "load_dataset", load)
    level = datasets.logging.get_verbosity()
    assert level != datasets.logging.ERROR
    pool = Pool.scan("hf:x/y")
    assert len(pool) == 9
    (note,) = pool.notes
    assert note.startswith("hf:x/y: as it was downloaded before; the hub cannot be reached (")
    assert "is not here yet" in user_error("hf:x/z")
    assert seen == [[True, True]] * 2
    assert [home.HF_HUB_OFFLINE for home in homes] == [False, False]
    assert datasets.logging.get_verbosity() == level
    assert Pool.scan(f"hf:{repository}").notes == ()  # nobody is asked for a folder
    assert seen[2] == [False, False]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert user_error("hf:x/y").endswith("install it: pip install 'fewlabels[hub]'")


def test_images_are_mapped_and_not_loaded(tmp_path: Path) -> None:
    """60 MB of images: reading all of them, one after the other, must not keep them."""
    rng = np.random.default_rng(0)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for number in range(6):
        cells = [{"bytes": rng.bytes(100_000), "path": None} for _ in range(100)]
        labels = [str(row % 2) for row in range(100)]
        path = tmp_path / f"set/train-{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        about = json.dumps(
            {
                "info": {
                    "features": {
                        "image": {"_type": "Image"},
                        "label": {"dtype": "string", "_type": "Value"},
                    }
                }
            }
        )
        table = pa.table({"image": pa.array(cells, kind), "label": labels})
        pq.write_table(table.replace_schema_metadata({"huggingface": about}), path)
    before = pa.total_allocated_bytes()
    pool = Pool.scan(f"hf:{tmp_path}/set")
    assert sum(len(pool.source.read(row)) for row in range(600)) == 60_000_000
    assert pa.total_allocated_bytes() - before < 5_000_000


def test_the_origin_can_be_scanned_from_anywhere(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.parent)
    origin = Pool.scan("hf:animals?split=train").origin
    monkeypatch.chdir("/")
    assert len(Pool.scan(origin)) == 4


def test_hidden_labels_of_a_test_split(tmp_path: Path) -> None:
    kinds = {"label": ANIMALS}
    shard(tmp_path / "set/train.parquet", 0, {"label": [0, 1]}, kinds)
    shard(tmp_path / "set/test.parquet", 0, {"label": [-1, -1, 0]}, kinds)
    pool = Pool.scan(f"hf:{tmp_path}/set")
    assert sorted(pool.split.tolist()) == ["test"] * 3 + ["train"] * 2
    assert (pool.label[pool.split == "test"] >= 0).sum() == 1


def test_numbers_without_names(tmp_path: Path) -> None:
    shard(tmp_path / "set/train.parquet", 0, {"label": [0, 1, -1]})
    pool = Pool.scan(f"hf:{tmp_path}/set")
    assert pool.label.tolist() == [0, 1, -1]
    assert pool.notes == (
        "-1 is read as unlabelled (1 images); if it is a class, call it otherwise",
    )
    pool = Pool.scan(f"hf:{tmp_path}/set", to_train=False, task="regression")
    assert pool.target is not None
    assert pool.target[:, 0].tolist() == [0, 1, -1]


def test_a_set_without_labels_may_be_joined(tmp_path: Path, repository: Path) -> None:
    shard(tmp_path / "set/train.parquet", 0, {"note": ["x", "y"]})
    pool = Pool.scan([f"hf:{tmp_path}/set", f"hf:{repository}?split=train"])
    assert (pool.label >= 0).tolist() == [False, False, True, True, False, True]
    said = "no column of labels (found: image, note): its images are unlabelled"
    assert pool.notes == (said,)


def test_several_labels_an_image(tmp_path: Path) -> None:
    kinds = {"tags": {"feature": ANIMALS, "_type": "List"}}
    shard(tmp_path / "set/train.parquet", 0, {"tags": [[0, 1], [1, -1], [-1]]}, kinds)
    pool = Pool.scan(f"hf:{tmp_path}/set", to_train=False)
    assert pool.task == "multi"
    assert [pool.label_text(row) for row in range(3)] == ["ant|zebra", "ant", "|"]


def test_a_class_with_a_bar_in_its_name_is_told(tmp_path: Path) -> None:
    kinds = {"label": {"names": ["a|b", "c"], "_type": "ClassLabel"}}
    shard(tmp_path / "set/train.parquet", 0, {"label": [0, 1]}, kinds)
    assert "the column 'label' has a class 'a|b', but | stands" in user_error(f"hf:{tmp_path}/set")
