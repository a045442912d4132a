"""Which format bytes are in, by how they begin: those that are read, and names for the others."""

# TIFF: little or big endian, classic or BigTIFF; MPO, a JPEG of two pictures, is a JPEG
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)

OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"%!PS", "a PostScript document"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor (CUR)"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"v/1\1", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance HDR image"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI image"),
    (b"SIMPLE  =", "a FITS image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "a video (MPEG)"),
    (b"\0\5\x16\7", "what macOS keeps beside a file, not the file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image; run `git lfs pull`"),
    *((b"P%d" % number, "a Netpbm image (PPM, PGM or PBM)") for number in range(1, 8)),
)

# ISO base media files name a brand after `ftyp`
BRANDS = {
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
    b"crx ": "a camera's raw file",
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm"), "a HEIC image"),
    **dict.fromkeys((b"mif1", b"msf1"), "a HEIC image"),
}


def known(data: bytes) -> str:
    """One of FORMATS, or "" where the bytes begin like none of them."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for beginning, name in BEGINNINGS if data.startswith(beginning)), "")


def unknown(data: bytes) -> str:
    """What bytes are that begin like none of FORMATS, as far as it can be told; else ""."""
    if data[4:8] == b"ftyp":
        if b"avif" in data[8:64]:  # its first brand may be the general one, mif1
            return "an AVIF image"
        return BRANDS.get(data[8:12], "a video (MP4 or QuickTime)")
    if data.startswith(b"RIFF"):
        return {b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}.get(data[8:12], "a RIFF file")
    if data[128:132] == b"DICM":
        return "a DICOM image"
    for beginning, name in OTHERS:
        if data.startswith(beginning):
            return name
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not an image"
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith(b"<"):
        return "an XML text"
    if start.startswith((b"{", b"[")):
        return "a JSON text"
    if not data.strip(b"\0"):
        return "only zero bytes: the file was never written, or lost"
    return ""
