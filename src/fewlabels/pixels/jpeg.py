"""What stands in a JPEG before its pixels: size, channels, orientation, colour profile."""

import re
import struct
from dataclasses import dataclass

START, END = b"\xff\xd8\xff", b"\xff\xd9"

# ITU-T T.81, table B.1
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF: how the pixels are coded
PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
SCAN, EXIF, PROFILE, ADOBE = 0xDA, 0xE1, 0xE2, 0xEE

XMP = b"http://ns.adobe.com/xap/1.0/\0"
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Header:
    width: int
    height: int
    channels: int
    progressive: bool
    adobe: bool  # Adobe's marker: its CMYK is stored inverted
    orientation: int  # 1 to 8, EXIF's
    profile: bytes  # ICC, b"" = none
    scan: int  # where the first scan begins in the file


def header(data: bytes) -> Header | None:
    """Of a JPEG, from its segments alone; None where they are not in order."""
    at, frame, adobe, orientation = len(START) - 1, None, False, 0
    parts: dict[int, bytes] = {}  # of the profile, which may be longer than a segment
    try:
        while True:
            if data[at] != 0xFF:
                return None
            marker = data[at + 1]
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker in ALONE:
                at += 2
                continue
            if marker == SCAN:
                break
            length = struct.unpack_from(">H", data, at + 2)[0]
            if marker in FRAMES:
                frame = marker, struct.unpack_from(">HHB", data, at + 5)
            elif marker == EXIF and not orientation:
                orientation = _orientation(data[at + 4 : at + 2 + length])
            elif marker == PROFILE and data.startswith(b"ICC_PROFILE\0", at + 4):
                parts.setdefault(data[at + 16], data[at + 18 : at + 2 + length])
            elif marker == ADOBE:
                adobe = adobe or data.startswith(b"Adobe", at + 4)
            at += 2 + length
    except (IndexError, struct.error):  # the file ends
        return None
    if frame is None:
        return None
    height, width, channels = frame[1]
    profile = b"".join(parts[number] for number in sorted(parts))
    return Header(
        width, height, channels, frame[0] in PROGRESSIVE, adobe, orientation or 1, profile, at
    )


def _orientation(segment: bytes) -> int:
    """1 to 8 from an EXIF or XMP segment, 0 where it says nothing."""
    if segment.startswith(XMP):
        said = re.search(rb'tiff:Orientation(?:="|>)([1-8])', segment)
        return int(said[1]) if said else 0
    if not segment.startswith(b"Exif\0\0"):
        return 0
    tiff = segment[6:]
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        start = struct.unpack_from(order + "I", tiff, 4)[0]
        for number in range(struct.unpack_from(order + "H", tiff, start)[0]):
            entry = start + 2 + 12 * number
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == ORIENTATION:
                form = {3: "H", 4: "I"}[kind]  # SHORT; some write LONG
                value: int = struct.unpack_from(order + form, tiff, entry + 8)[0]
                return value if 1 <= value <= 8 else 0
    except (KeyError, struct.error):
        pass  # damaged EXIF says nothing; the picture may be whole
    return 0
