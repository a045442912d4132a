"""What Pillow has to say of damaged tags: nothing in the terminal, and no switch of a user's
program is turned for it."""

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image


def damaged_tags() -> bytes:
    """A whole TIFF; of one of its tags there are too many."""
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "TIFF", resolution_unit=2)
    data = bytearray(file.getvalue())
    at = data.index(struct.pack("<HH", 296, 3))
    data[at + 4 : at + 8] = struct.pack("<I", 2)
    return bytes(data)


def test_the_command_line_is_silent(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.tif").write_bytes(damaged_tags())
    command = [sys.executable, "-c", "from fewlabels.cli import main; main()", "check", "--json"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["images"] == 2
    with pytest.warns(UserWarning, match="296 had too many entries"):
        Image.open(tmp_path / "a.tif").load()


def bomb() -> bytes:
    """The beginning of a PNG of 100 megapixels."""
    size = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", size), (b"IDAT", b"x")):
        checksum = zlib.crc32(name + content)
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)
    return data


def test_a_bomb_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb())
    (tmp_path / "b.tif").write_bytes(damaged_tags())
    command = [sys.executable, "-c", "from fewlabels.cli import main; main()", "check", "--json"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PNG of 10000x10000" in done.stdout
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "a.png")


def test_nothing_global_is_changed_by_an_import() -> None:
    code = """
import warnings, numba, numpy, simplejpeg, sys
from PIL import Image, ImageFile
def switches():
    return list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
before = switches()
import fewlabels.pixels.decode
assert switches() == before, (before, switches())
fewlabels.pixels.decode.decode(sys.stdin.buffer.read())
assert switches() == before
"""
    subprocess.run([sys.executable, "-c", code], input=damaged_tags(), check=True)
