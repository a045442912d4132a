import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fewlabels.errors import UserError
from fewlabels.pool import Pool


def images(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return root


def told(pool: Pool) -> dict[str, tuple[str, str]]:
    """{name: (split, class)}"""
    return {
        pool.source.name(row): (
            str(pool.split[row]),
            pool.classes[pool.label[row]] if pool.label[row] >= 0 else "",
        )
        for row in range(len(pool))
    }


def test_split_folders(tmp_path: Path) -> None:
    images(
        tmp_path,
        "Train/cat/1.png",
        "Train/cat/deep/er/2.png",
        "Train/dog/3.JPG",
        "Train/loose.png",
        "Train/unlabelled/7.png",
        "valid/cat/4.png",
        "test/dog/5.png",
        "unlabeled/6.png",
        "unlabeled/nested/8.png",
    )
    pool = Pool.scan(tmp_path)
    assert told(pool) == {
        "Train/cat/1.png": ("train", "cat"),
        "Train/cat/deep/er/2.png": ("train", "cat"),
        "Train/dog/3.JPG": ("train", "dog"),
        "Train/loose.png": ("train", ""),
        "Train/unlabelled/7.png": ("train", ""),
        "valid/cat/4.png": ("val", "cat"),
        "test/dog/5.png": ("test", "dog"),
        "unlabeled/6.png": ("train", ""),
        "unlabeled/nested/8.png": ("train", ""),
    }
    assert pool.classes == ("cat", "dog")
    assert pool.origin == str(tmp_path)
    assert pool.skipped == ()
    assert pool.counts() == {
        "train": {"cat": 2, "dog": 1, "unlabelled": 4},
        "val": {"cat": 1, "dog": 0, "unlabelled": 0},
        "test": {"cat": 0, "dog": 1, "unlabelled": 0},
    }
    assert pool.source.read(0) == (tmp_path / pool.source.name(0)).read_bytes()


def test_flat_tree(tmp_path: Path) -> None:
    images(tmp_path, "10/a.png", "2/b.png", "2/x/c.png", "unlabelled/d.png", "e.png")
    pool = Pool.scan(str(tmp_path))
    assert pool.classes == ("2", "10")  # numbers, not letters
    assert told(pool) == {
        "10/a.png": ("", "10"),
        "2/b.png": ("", "2"),
        "2/x/c.png": ("", "2"),
        "unlabelled/d.png": ("train", ""),
        "e.png": ("train", ""),
    }


def test_train_may_be_a_class(tmp_path: Path) -> None:
    pool = Pool.scan(images(tmp_path, "train/1.png", "car/1.png", "bus/1.png"))
    assert pool.classes == ("bus", "car", "train")


def test_split_folders_of_loose_images_are_not_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labelled training image"):
        Pool.scan(images(tmp_path, "train/1.png", "test/1.png"))


def test_nothing_is_left_out_silently(tmp_path: Path) -> None:
    images(tmp_path, "train/a/1.png", "train/b/1.png", "test/loose.png", "other/1.png", "top.png")
    (tmp_path / "LICENSE").touch()
    (tmp_path / "train" / "a" / "drawing.svg").touch()
    litter = [".hidden.png", ".git/x.png", "__MACOSX/y.png", "@eaDir/z.png", "Thumbs.db"]
    for name in litter:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    skipped = {s.name: s.reason for s in Pool.scan(tmp_path).skipped}
    assert sorted(skipped) == [
        "LICENSE",
        "other/1.png",
        "test/loose.png",
        "top.png",
        "train/a/drawing.svg",
    ]
    assert all(skipped.values())


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    images(tmp_path, "b/2.png", "a-1/1.png", "a/3.png", "a/1.png")
    pool = Pool.scan(tmp_path)
    names = [pool.source.name(row) for row in range(4)]
    assert names == ["a/1.png", "a/3.png", "a-1/1.png", "b/2.png"]


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    pool = Pool.scan(tmp_path)
    assert len(pool) == 2
    assert [s.name for s in pool.skipped] == ["a/up"]


def test_take(tmp_path: Path) -> None:
    pool = Pool.scan(images(tmp_path, "a/1.png", "b/1.png", "b/2.png", "c/1.png"))
    part = pool.take([3, 1, 2]).take([2, 0])  # type: ignore[arg-type]
    assert told(part) == {"b/2.png": ("", "b"), "c/1.png": ("", "c")}
    assert [part.source.name(row) for row in range(len(part))] == ["b/2.png", "c/1.png"]
    assert part.classes == pool.classes


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "no images in this folder"),
        (["1.png", "2.png"], "no labelled training image among 2"),
        (["cat/1.png"], "only one class ('cat')"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "class 'c' is in test (1 images)"),
        (["train/a/1.png", "train/b/1.png", "val/d/1.png"], "class 'd' is in val (1 images)"),
        (["test/a/1.png", "test/b/1.png"], "no labelled training image"),
    ],
)
def test_user_errors(tmp_path: Path, names: list[str], said: str) -> None:
    images(tmp_path, *names)
    with pytest.raises(UserError) as error:
        Pool.scan(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_csv_beside_loose_images_is_suggested(tmp_path: Path) -> None:
    images(tmp_path, "1.png")
    (tmp_path / "labels.csv").touch()
    with pytest.raises(UserError, match=r"labels\.csv holds the labels"):
        Pool.scan(tmp_path)


def test_no_such_path_suggests_near_names(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"did you mean .*photos\?") as error:
        Pool.scan(tmp_path / "fotos")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file or folder; DATA may be"):
        Pool.scan(tmp_path / "nowhere" / "at-all")


@pytest.mark.parametrize("name", ["a.zip", "a.png"])
def test_unknown_kind_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"a \.csv table, a \.parquet file"):
        Pool.scan(tmp_path / name)


def test_scanning_a_folder_loads_nothing_heavy(tmp_path: Path) -> None:
    images(tmp_path, "a/1.png", "b/1.png")
    program = (
        "import sys; from fewlabels.pool import Pool; Pool.scan(sys.argv[1]); "
        "print([m for m in ('torch', 'PIL', 'pyarrow', 'sklearn') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    for name in ("outside/x.png", "photos/cat/1.png", "photos/dog/2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    photos = tmp_path / "photos"
    (photos / "cat" / "far").symlink_to(tmp_path / "outside", target_is_directory=True)
    (photos / "cat" / "secret.png").symlink_to(tmp_path / "outside" / "x.png")
    (photos / "dog" / "own.png").symlink_to(photos / "dog" / "2.png")
    (photos / "bird").symlink_to(photos / "dog", target_is_directory=True)
    pool = Pool.scan(photos)
    names = [pool.source.name(row) for row in range(len(pool))]
    assert names == ["bird/2.png", "bird/own.png", "cat/1.png", "dog/2.png", "dog/own.png"]
    assert {skipped.name: skipped.reason for skipped in pool.skipped} == {
        "cat/far": "a link that leads out of the folder",
        "cat/secret.png": "a link that leads out of the folder",
    }


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for name, others in (("a", "bc"), ("b", "ac"), ("c", "ab")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(name.encode())
        for other in others:
            (tmp_path / name / other).symlink_to(tmp_path / other, target_is_directory=True)
    pool = Pool.scan(tmp_path)
    assert len(pool) == 9  # each folder, and the two that it links to
    assert {skipped.reason for skipped in pool.skipped} <= {
        "a link in a linked folder",
        "a link to a folder that contains it",
    }
