"""torchvision's own sets, on files in their own formats that the tests make; nothing is fetched."""

import io
import pickle
import struct
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pool import Pool, named


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    named.names()  # imports torchvision, repaired

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def noise(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def write_cifar10(root: Path) -> NDArray[np.uint8]:
    """Two training images a batch and three test images; all thirteen [13, 32, 32, 3]."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = noise(0, 13, 32, 32, 3)
    rows = images.transpose(0, 3, 1, 2).reshape(13, -1)
    for number in range(5):
        own = slice(2 * number, 2 * number + 2)
        batch = {"data": rows[own], "labels": [number, 9 - number]}
        (folder / f"data_batch_{number + 1}").write_bytes(pickle.dumps(batch))
    (folder / "test_batch").write_bytes(pickle.dumps({"data": rows[10:], "labels": [0, 1, 2]}))
    names = "plane car bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    return images


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's files may be others than the published ones."""
    from torchvision.datasets import CIFAR10

    for name in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, name, [[file, None] for file, _ in getattr(CIFAR10, name)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(head + values.tobytes())


def write_mnist(
    root: Path, kind: str = "MNIST", train: str = "train", test: str = "t10k", step: int = 1
) -> NDArray[np.uint8]:
    images = noise(1, 25, 28, 28)
    labels = (np.arange(25) % 10 * step).astype(np.uint8)
    for word, own in ((train, slice(0, 20)), (test, slice(20, 25))):
        write_idx(root / kind / "raw" / f"{word}-images-idx3-ubyte", images[own])
        write_idx(root / kind / "raw" / f"{word}-labels-idx1-ubyte", labels[own])
    return images


def jpeg(path: Path, value: int) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 6), (value, 0, 0)).save(path)
    return path.read_bytes()


def test_cifar10(tmp_path: Path, unchecked: None) -> None:
    images = write_cifar10(tmp_path)
    pool = Pool.scan(f"torchvision:CIFAR10?root={tmp_path}")
    assert pool.split.tolist() == ["train"] * 10 + ["test"] * 3
    names = [pool.classes[n] for n in pool.label]
    assert names[:4] == ["plane", "truck", "car", "ship"]
    assert names[10:] == ["plane", "car", "bird"]
    for row in range(13):
        np.testing.assert_array_equal(pixels(pool.source.read(row)), images[row])
    assert pool.source.name(0) == "train#0"
    assert pool.source.name(12) == "test#2"
    assert pool.source.read(3) == pool.source.read(3)  # the digest is the image's name
    assert pool.mirror


def test_mnist_and_its_relatives(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    pool = Pool.scan(f"torchvision:MNIST?root={tmp_path}")
    assert pool.classes[3] == "3 - three"
    assert pool.label.tolist() == [row % 10 for row in range(25)]
    assert pool.split.tolist() == ["train"] * 20 + ["test"] * 5
    for row in (0, 19, 20, 24):
        np.testing.assert_array_equal(pixels(pool.source.read(row)), images[row])
    assert not pool.mirror
    write_mnist(tmp_path, "FashionMNIST")
    assert Pool.scan(f"torchvision:FashionMNIST?root={tmp_path}").mirror


def test_a_set_of_several_parts_wants_one(tmp_path: Path) -> None:
    write_mnist(tmp_path, "EMNIST", "emnist-digits-train", "emnist-digits-test")
    said = user_error(f"torchvision:EMNIST?root={tmp_path}")
    assert "choose one of its parts by ?split=…: byclass, bymerge, balanced, letters" in said
    pool = Pool.scan(f"torchvision:EMNIST?root={tmp_path}&split=digits")
    assert pool.classes == tuple("0123456789")
    assert pool.split.tolist() == ["train"] * 20 + ["test"] * 5


def test_sets_of_files_give_the_files_own_bytes(tmp_path: Path) -> None:
    files = {}
    for side, label, value in (("train", "AT", 1), ("train", "BE", 2), ("valid", "BE", 3)):
        path = tmp_path / "country211" / side / label / f"{value}.jpg"
        files[value] = jpeg(path, value)
    files[4] = jpeg(tmp_path / "country211/test/AT/4.jpg", 4)
    pool = Pool.scan(f"torchvision:Country211?root={tmp_path}")
    assert pool.classes == ("AT", "BE")
    assert pool.split.tolist() == ["train", "train", "val", "test"]
    assert pool.label.tolist() == [0, 1, 1, 0]
    assert [pool.source.read(row) for row in range(4)] == [files[n] for n in (1, 2, 3, 4)]
    assert pool.source.name(2) == "country211/valid/BE/3.jpg"
    (tmp_path / "country211/valid/BE/3.jpg").unlink()
    with pytest.raises(OSError, match=r"3\.jpg"):
        pool.source.read(2)


def test_a_set_without_splits_is_still_to_be_split(tmp_path: Path) -> None:
    for label in ("Forest", "River"):
        for number in range(3):
            jpeg(tmp_path / f"eurosat/2750/{label}/{label}_{number}.jpg", number)
    pool = Pool.scan(f"torchvision:EuroSAT?root={tmp_path}")
    assert pool.split.tolist() == [""] * 6
    assert pool.classes == ("Forest", "River")


def test_options_of_the_set(tmp_path: Path) -> None:
    """DTD has ten partitions in train, val and test."""
    folder = tmp_path / "dtd/dtd"
    lines = [f"{name}/{name}_{n}.jpg" for name in ("banded", "woven") for n in range(3)]
    for number, line in enumerate(lines):
        jpeg(folder / "images" / line, number)
    (folder / "labels").mkdir()
    for partition in (1, 2):
        for number, side in enumerate(("train", "val", "test")):
            own = lines[(number + partition) % 3 :: 3]
            (folder / f"labels/{side}{partition}.txt").write_text("\n".join(own))
    first = Pool.scan(f"torchvision:DTD?root={tmp_path}")
    second = Pool.scan(f"torchvision:DTD?root={tmp_path}&partition=2")
    assert first.split.tolist() == ["train"] * 2 + ["val"] * 2 + ["test"] * 2
    assert first.source.name(0) == "dtd/dtd/images/banded/banded_1.jpg"
    assert second.source.name(0) == "dtd/dtd/images/banded/banded_2.jpg"
    assert Pool.scan(f"torchvision:DTD?root={tmp_path}&split=val").split.tolist() == ["", ""]
    assert "partition=x is not a value" in user_error("torchvision:DTD?partition=x")


def test_unlabelled_splits_and_sets_of_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STL-10's binary files: images are stored column by column."""
    from torchvision.datasets import STL10

    monkeypatch.setattr(STL10, "_check_integrity", lambda self: True)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    images = noise(2, 9, 3, 96, 96)
    for name, own in (("train", slice(4)), ("test", slice(4, 7)), ("unlabeled", slice(7, 9))):
        (folder / f"{name}_X.bin").write_bytes(images[own].tobytes())
    (folder / "train_y.bin").write_bytes(bytes([1, 2, 1, 2]))
    (folder / "test_y.bin").write_bytes(bytes([2, 1, 1]))
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    pool = Pool.scan(f"torchvision:STL10?root={tmp_path}")
    assert pool.split.tolist() == ["train"] * 4 + ["test"] * 3 + ["train"] * 2
    assert pool.label.tolist() == [0, 1, 0, 1, 1, 0, 0, -1, -1]
    np.testing.assert_array_equal(pixels(pool.source.read(8)), images[8].transpose(2, 1, 0))


def test_downloaded_once_and_whole_or_not_at_all(
    unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    calls: list[bool] = []

    def download(self: Any) -> None:
        calls.append(self.train)
        if len(calls) == 2:
            raise URLError("connection lost")  # half of it is there
        if not (Path(self.root) / self.base_folder).exists():
            write_cifar10(Path(self.root))

    monkeypatch.setattr(CIFAR10, "download", download)
    said = user_error("torchvision:CIFAR10")
    assert "cannot be downloaded into" in said
    assert "connection lost" in said
    assert "torchvision:CIFAR10?root=DIR" in said
    assert list(named.default_folder().iterdir()) == []
    assert len(Pool.scan("torchvision:CIFAR10")) == 13
    assert calls == [True, False, True, False]
    assert [path.name for path in named.default_folder().iterdir()] == ["CIFAR10"]
    assert Pool.scan("torchvision:CIFAR10").origin == "torchvision:CIFAR10"
    assert len(calls) == 4


def test_the_origin_can_be_scanned_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path / "sets here")
    monkeypatch.chdir(tmp_path)
    origin = Pool.scan("torchvision:MNIST?root=sets here").origin
    monkeypatch.chdir("/")
    assert len(Pool.scan(origin)) == 25


def user_error(data: str) -> str:
    with pytest.raises(UserError) as error:
        Pool.scan(data)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(data)
    return str(error.value)


def test_user_errors(tmp_path: Path) -> None:
    assert "did you mean torchvision:CIFAR10?" in user_error("torchvision:cifar10")
    assert "there are CIFAR10, CIFAR100" in user_error("torchvision:CocoDetection")
    assert "takes no 'transform'; it takes root" in user_error("torchvision:CIFAR10?transform=x")
    assert "Unknown value '8px'" in user_error("torchvision:Imagenette?size=8px")
    assert "no route to host" in user_error("torchvision:MNIST")
    said = user_error(f"torchvision:MNIST?root={tmp_path}")
    assert f"cannot be read from {tmp_path} (Dataset not found" in said
    assert list(tmp_path.iterdir()) == []


def test_all_sets_of_images_with_one_class_are_known() -> None:
    """By inspection, so that those of a later torchvision are there too."""
    sets = set(named.names())
    known = "CIFAR100 DTD EMNIST Flowers102 Food101 GTSRB OxfordIIITPet SVHN USPS QMNIST Caltech256"
    assert sets >= set(known.split())
    others = "CelebA CocoCaptions FakeData HMDB51 ImageFolder Kinetics LSUN PhotoTour VisionDataset"
    assert not sets & set(others.split())


def test_another_process_may_be_faster(unchecked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    there = named.default_folder() / "CIFAR10"

    def download(self: Any) -> None:
        if not there.exists():
            write_cifar10(Path(self.root))
            write_cifar10(there)

    monkeypatch.setattr(CIFAR10, "download", download)
    assert len(Pool.scan("torchvision:CIFAR10")) == 13
    assert list(named.default_folder().iterdir()) == [there]


def test_a_place_that_cannot_be_written_is_told(
    unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    named.default_folder().mkdir(parents=True)
    (named.default_folder() / "CIFAR10").write_text("in the way")
    monkeypatch.setattr(
        CIFAR10, "download", lambda self: self.train and write_cifar10(Path(self.root))
    )
    assert "(Not a directory" in user_error("torchvision:CIFAR10").replace("[Errno 20] ", "")


def test_images_that_are_opened_but_not_decoded_give_their_files_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "caltech101/101_ObjectCategories"
    files = [jpeg(folder / name / "image_0001.jpg", n) for n, name in enumerate(("ant", "bee"))]
    jpeg(folder / "BACKGROUND_Google/image_0001.jpg", 9)
    pool = Pool.scan(f"torchvision:Caltech101?root={tmp_path}")
    assert pool.classes == ("ant", "bee")
    assert [pool.source.read(row) for row in range(2)] == files


def test_sets_that_decode_their_files_give_png(tmp_path: Path) -> None:
    base = tmp_path / "gtsrb"
    for label in (0, 1):
        folder = base / f"GTSRB/Training/{label:05d}"
        folder.mkdir(parents=True)
        Image.fromarray(noise(label, 6, 5, 3)).save(folder / "1.ppm")
    (base / "GTSRB/Final_Test/Images").mkdir(parents=True)
    Image.fromarray(noise(3, 6, 5, 3)).save(base / "GTSRB/Final_Test/Images/0.ppm")
    (base / "GT-final_test.csv").write_text("Filename;ClassId\n0.ppm;1\n")
    pool = Pool.scan(f"torchvision:GTSRB?root={tmp_path}")
    assert pool.classes == ("0", "1")
    assert pool.split.tolist() == ["train", "train", "test"]
    assert pool.label.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(pixels(pool.source.read(1)), noise(1, 6, 5, 3))
    (base / "GTSRB/Training/00000/1.ppm").write_bytes(b"damaged")
    with pytest.raises(OSError, match="cannot identify image file"):
        pool.source.read(0)
