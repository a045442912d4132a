"""Files about as large as they may be, of every format and coding: seconds and memory to decode.

    python benchmarks/largest.py [--only WORD]

Each side is a little below what `fewlabels.pixels.decode` refuses. The picture is a photograph,
repeated, with a little noise, so that no coding finds the repetition. A process of its own decodes
each as `check` does (`decode`) and as training does (`square`, 224 pixels): processor time on one
core, and by how much its memory grew at most, the encoded file left out.
"""

import argparse
import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from sklearn.datasets import load_sample_images

from fewlabels.pixels.decode import Unreadable, decode, square

Make = Callable[[Image.Image], bytes]
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--one", type=Path, help="decode this file, in this process")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(cost(asked.one.read_bytes())))
        return
    print("| file | side | MB | decode, s | square, s | memory, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        for name, side, make in CASES:
            if asked.only not in name:
                continue
            file.write_bytes(make(scene(side)))
            one = [sys.executable, __file__, "--one", str(file)]
            found = json.loads(subprocess.run(one, capture_output=True, check=True).stdout)
            megabytes = f"{file.stat().st_size / 1e6:.0f}"
            print("", name, side, megabytes, *found, "", sep=" | ", flush=True)


def cost(data: bytes) -> Sequence[str]:
    square(saved("PNG")(scene(300)), 224)  # imports and compiles what it needs
    decode(saved("JPEG")(scene(300)))
    before, seconds = peak(), []
    for way in (decode, lambda data: square(data, 224)):
        start = time.thread_time()
        try:
            way(data)
        except Unreadable as error:
            return [str(error)]
        seconds.append(f"{time.thread_time() - start:.2f}")
    return [*seconds, f"{peak() - before:,.0f}"]


def peak() -> float:
    """MB that the process held at most, as Linux tells it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def scene(side: int) -> Image.Image:
    """RGBA: whatever is asked of it is converted from that."""
    photo = load_sample_images().images[0]
    height, width = photo.shape[:2]
    tiled = np.tile(photo, (side // height + 1, side // width + 1, 1))[:side, :side]
    noise = np.random.default_rng(0).integers(0, 4, (side, side, 1), np.uint8)
    pixels = np.minimum(tiled, 251) + noise
    return Image.fromarray(np.concatenate([pixels, pixels[..., 1:2]], 2))


def saved(kind: str, mode: str = "RGB", **options: Any) -> Make:
    def make(image: Image.Image) -> bytes:
        file = io.BytesIO()
        if mode == "P":
            converted = image.convert("RGB").quantize(256)
        elif mode == "LAB":
            lab = ImageCms.createProfile("LAB"), "RGB", "LAB"
            to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), *lab)
            converted = to_lab.apply(image.convert("RGB"))
        elif mode == "I;16":
            converted = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        else:
            converted = image.convert(mode)
        converted.save(file, kind, **options)
        return file.getvalue()

    return make


def png(channels: int, bits: int = 8, interlaced: bool = False) -> Make:
    """What Pillow does not write: 16 bits of colour, interlaced."""

    def make(image: Image.Image) -> bytes:
        pixels = np.asarray(image)[..., :channels]
        if bits == 16:
            low = np.random.default_rng(1).integers(0, 256, pixels.shape, np.uint16)
            pixels = (pixels.astype(np.uint16) * 256 + low).astype(">u2")
        kind = {3: 2, 4: 6}[channels]
        header = struct.pack(">IIBBBBB", *image.size, bits, kind, 0, 0, interlaced)
        parts = [pixels]
        if interlaced:
            parts = [pixels[top::down, left::right] for top, left, down, right in ADAM7]
            parts.append(pixels[1::2])
        packer = zlib.compressobj(1)
        packed = b"".join(packer.compress(filtered(part)) for part in parts) + packer.flush()
        chunks = (b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)

    return make


def filtered(pixels: NDArray[Any]) -> bytes:
    """Each row as its differences from the pixel to the left (filter 1)."""
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1).view(np.uint8)
    step = pixels.shape[2] * pixels.itemsize
    rows[:, step:] -= rows[:, :-step].copy()
    return np.concatenate([np.ones((len(rows), 1), np.uint8), rows], 1).tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def profile(space: str) -> bytes:
    """An ICC profile that changes colours: linear RGB, or a table for CMYK."""
    curve = b"curv\0\0\0\0" + bytes(4)  # none: linear
    matrix = np.array(
        [[0.4360, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
    )
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 2) + b"x\0" + bytes(78),
        b"cprt": b"text\0\0\0\0x\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
    }
    if space == "RGB ":
        for letter, column in zip((b"r", b"g", b"b"), matrix.T, strict=True):
            fixed = (round(value * 65536) for value in column)
            tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + struct.pack(">3i", *fixed)
            tags[letter + b"TRC"] = curve
    else:
        steps = np.linspace(1, 0, 17)
        c, m, y, k = np.meshgrid(steps, steps, steps, steps, indexing="ij")
        lightness = (c + m + y) / 3 * k * 65280
        lab = np.stack([lightness, 32768 + 8000 * (c - m), 32768 + 8000 * (m - y)], -1)
        line = np.linspace(0, 65535, 256).astype(">u2").tobytes()
        tags[b"A2B0"] = (
            b"mft2\0\0\0\0\4\3\x11\0"
            + struct.pack(">9iHH", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536, 256, 256)
            + (line * 4 + lab.astype(">u2").tobytes() + line * 3)
        )
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    device, inner = (b"mntr", b"XYZ ") if space == "RGB " else (b"prtr", b"Lab ")
    head = struct.pack(
        ">I4sI4s4s4s", at + len(bodies), b"lcms", 0x02100000, device, space.encode(), inner
    )
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + bodies


RGB, CMYK = profile("RGB "), profile("CMYK")

CASES: tuple[tuple[str, int, Make], ...] = (
    ("JPEG, quality 90", 12800, saved("JPEG", quality=90)),
    ("JPEG, quality 95, 4:4:4", 12200, saved("JPEG", quality=95, subsampling=0)),
    ("JPEG, progressive", 9000, saved("JPEG", quality=90, progressive=True)),
    (
        "JPEG, progressive, 95, 4:4:4",
        8000,
        saved("JPEG", quality=95, subsampling=0, progressive=True),
    ),
    ("JPEG, grey", 13300, saved("JPEG", "L", quality=90)),
    ("JPEG, profile", 7300, saved("JPEG", quality=90, icc_profile=RGB)),
    ("JPEG, CMYK", 7900, saved("JPEG", "CMYK", quality=90)),
    ("JPEG, CMYK, profile", 5100, saved("JPEG", "CMYK", quality=90, icc_profile=CMYK)),
    ("PNG, RGB", 7150, saved("PNG", compress_level=3)),
    ("PNG, RGB, profile", 5550, saved("PNG", compress_level=3, icc_profile=RGB)),
    ("PNG, RGBA", 5950, saved("PNG", "RGBA", compress_level=3)),
    ("PNG, RGBA, profile", 4950, saved("PNG", "RGBA", compress_level=3, icc_profile=RGB)),
    ("PNG, grey", 8900, saved("PNG", "L", compress_level=3)),
    ("PNG, grey and alpha", 7650, saved("PNG", "LA", compress_level=3)),
    ("PNG, grey of 16 bits", 8900, saved("PNG", "I;16", compress_level=3)),
    ("PNG, palette", 8900, saved("PNG", "P", compress_level=3, transparency=3)),
    ("PNG, RGB of 16 bits", 6000, png(3, 16)),
    ("PNG, RGBA of 16 bits", 5050, png(4, 16)),
    ("PNG, RGB, interlaced", 6000, png(3, interlaced=True)),
    ("PNG, RGBA, interlaced", 5050, png(4, interlaced=True)),
    ("PNG, RGBA of 16 bits, interlaced", 5050, png(4, 16, interlaced=True)),
    ("WebP, lossy", 6200, saved("WEBP", quality=60, method=0)),
    ("WebP, lossless", 6200, saved("WEBP", lossless=True, quality=0, method=0)),
    ("WebP, lossless, RGBA", 5200, saved("WEBP", "RGBA", lossless=True, quality=0, method=0)),
    ("GIF", 7850, saved("GIF", "P", transparency=3)),
    ("BMP", 8900, saved("BMP")),
    ("TIFF", 7400, saved("TIFF")),
    ("TIFF, LZW", 7400, saved("TIFF", compression="tiff_lzw")),
    ("TIFF, LZW, RGBA", 6200, saved("TIFF", "RGBA", compression="tiff_lzw")),
    ("TIFF, deflate", 7400, saved("TIFF", compression="tiff_adobe_deflate")),
    ("TIFF, JPEG", 7400, saved("TIFF", compression="jpeg", quality=95)),
    ("TIFF, fax", 8900, saved("TIFF", "1", compression="group4")),
    ("TIFF, grey of 16 bits, LZW", 8900, saved("TIFF", "I;16", compression="tiff_lzw")),
    ("TIFF, LZW, CMYK", 5700, saved("TIFF", "CMYK", compression="tiff_lzw")),
    (
        "TIFF, LZW, CMYK, profile",
        4470,
        saved("TIFF", "CMYK", compression="tiff_lzw", icc_profile=CMYK),
    ),
    ("TIFF, Lab", 4950, saved("TIFF", "LAB")),
)

if __name__ == "__main__":
    main()
