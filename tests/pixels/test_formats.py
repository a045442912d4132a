import pytest

from fewlabels.pixels.formats import known, unknown


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", "video"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="3"/>', "SVG"),
        (b"\n<!DOCTYPE html><html><svg></svg>", "web page"),
        (b"<HTML><head>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"P6\n2 2\n255\n", "Netpbm"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
        (b"PK\3\4", "ZIP"),
        (b"\0" * 128 + b"DICM", "DICOM"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\5\x16\7\0\2\0\0", "macOS"),
        (b"\0" * 4096, "zero bytes"),
        (b"no image at all", ""),
    ],
)
def test_other_formats_are_named(data: bytes, name: str) -> None:
    assert known(data) == ""
    assert name in unknown(data)
    assert bool(name) == bool(unknown(data))


def test_formats_that_are_read() -> None:
    assert known(b"RIFF\x10\0\0\0WEBPVP8 ") == "WEBP"
    assert known(b"\xff\xd8\xff\xe0") == "JPEG"
    assert known(b"MM\0*\0\0\0\x08") == "TIFF"
    assert known(b"") == known(b"\xff\xd8") == known(b"RIFF") == ""
