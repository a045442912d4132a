import io
import json

import numpy as np
from PIL import Image

from fewlabels.pixels.decode import decode
from fewlabels.pool import Pool, Skipped
from fewlabels.pool.check import Sizes, check
from fewlabels.pool.source import Encoded


def png(width: int, height: int, grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), grey).save(file, "PNG")
    return file.getvalue()


class Missing(Encoded):
    def read(self, row: int) -> bytes:
        if row == 6:
            raise OSError(13, "Permission denied")
        return super().read(row)


def pool() -> Pool:
    blobs = (
        png(10, 4, 0),  # 0 train cat
        png(10, 4, 0),  # 1 test cat: leaks
        png(6, 6, 1),  # 2 train cat
        png(6, 6, 1),  # 3 train dog: contradicts
        png(6, 6, 1),  # 4 train, unlabelled
        png(30, 20, 2)[:-30],  # 5 truncated
        b"",  # 6 cannot be read
        b"no image",  # 7
    )
    return Pool(
        origin="here",
        source=Missing(tuple(f"{row}.png" for row in range(8)), blobs),
        classes=("cat", "dog"),
        label=np.array([0, 0, 0, 1, -1, 1, 1, 1]),
        split=np.array(["train", "test", "train", "train", "train", "", "", ""]),
        skipped=(Skipped("notes.txt", "not an image format"),),
    )


def test_check() -> None:
    seen: list[tuple[int, int]] = []
    found = check(pool(), decode, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]
    assert found.images == 8
    assert found.counts["train"] == {"cat": 2, "dog": 1, "unlabelled": 1}
    reasons = {bad.name: bad.reason for bad in found.unreadable}
    assert list(reasons) == ["5.png", "6.png", "7.png"]
    assert "truncated" in reasons["5.png"]
    assert reasons["6.png"] == "Permission denied"
    assert found.duplicates == (("0.png", "1.png"), ("2.png", "3.png", "4.png"))
    assert [[(c.name, c.split) for c in group] for group in found.leaks] == [
        [("0.png", "train"), ("1.png", "test")]
    ]
    assert [[(c.name, c.label) for c in group] for group in found.contradictions] == [
        [("2.png", "cat"), ("3.png", "dog"), ("4.png", "")]
    ]
    assert found.sizes == Sizes(least=(6, 6), median=(6, 6), most=(10, 4))
    assert found.skipped == pool().skipped


def test_to_json() -> None:
    plain = json.loads(json.dumps(check(pool(), decode).to_json()))
    assert plain["unreadable"][1] == {"name": "6.png", "reason": "Permission denied"}
    assert plain["leaks"][0][1] == {"name": "1.png", "split": "test", "label": "cat"}
    assert plain["sizes"]["most"] == [10, 4]


def test_nothing_readable_has_no_sizes() -> None:
    assert check(pool().take(np.array([7])), decode).sizes is None
