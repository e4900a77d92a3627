"""Keyframes: packets at which a decoder that knows nothing of the video so far can begin.

Containers mark key frames, but wrongly often enough: encoders were seen to mark H.264 pictures that
refer to nothing themselves while later ones still refer to what came before them. A decoder begun
there shows wrong pictures without a word, so the bitstream itself has to agree.
"""

from __future__ import annotations

from collections.abc import Iterator

import av

# Decoders that refuse to begin anywhere but at a real key frame, or that have nothing else.
TRUSTED_CODECS = frozenset({"vp8", "vp9", "av1", "theora", "mjpeg", "prores", "dnxhd", "ffv1", "rawvideo"})
TRUSTED_CODECS |= {"huffyuv", "ffvhuff", "v210", "utvideo", "cfhd"}
CHECKED_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
# Decoders that honour skip_frame packet by packet and leave all other pictures as they are.
SKIPPING_CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})
MPEG_PICTURE, MPEG4_PICTURE = b"\0\0\1\0", b"\0\0\1\xb6"  # picture header, video object plane
MPEG4_EMPTY_BYTES = 8  # a "not coded" picture is no longer
LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}  # where avcC and hvcC say how long the units' lengths are
H264_IDR, H264_SEI, H264_SLICES = 5, 6, (1, 2, 5)
SEI_RECOVERY_POINT = 6
HEVC_RANDOM_ACCESS, HEVC_FIRST_NON_SLICE = range(16, 24), 32


def is_entry_point(packet: av.Packet, codec: str, extradata: bytes) -> bool:
    """`codec` is libav's canonical codec name, `extradata` the stream's (avcC or hvcC in mp4 and mkv)."""
    if not packet.is_keyframe or packet.pts is None:
        return False
    if codec == "h264":
        return _h264_entry(_units(bytes(packet), _length_size(extradata, LENGTH_SIZE_AT[codec])))
    if codec == "hevc":
        return _hevc_entry(_units(bytes(packet), _length_size(extradata, LENGTH_SIZE_AT[codec])))
    if codec in ("mpeg1video", "mpeg2video"):
        data = bytes(packet)
        at = data.find(MPEG_PICTURE)
        return at >= 0 and data[at + 5 : at + 6] != b"" and data[at + 5] >> 3 & 7 == 1
    if codec == "mpeg4":
        data = bytes(packet)
        at = data.find(MPEG4_PICTURE)
        return at >= 0 and data[at + 4 : at + 5] != b"" and data[at + 4] >> 6 == 0
    return codec in TRUSTED_CODECS


def holds_one_picture(packet: av.Packet, codec: str, extradata: bytes) -> bool:
    """Whether a packet holds exactly one picture, as far as its outermost structure tells.

    MPEG program streams end with a packet that holds none, and AVI files pack two MPEG-4 pictures
    into one packet, followed by an empty one. H.264 and HEVC decoders refuse a packet that its units
    do not fill, which must not go unnoticed where the packet is skipped.
    """
    if codec in LENGTH_SIZE_AT:
        length_size = _length_size(extradata, LENGTH_SIZE_AT[codec])
        return not length_size or _is_filled(bytes(packet), length_size)
    if codec in ("mpeg1video", "mpeg2video"):
        return MPEG_PICTURE in bytes(packet)
    if codec == "mpeg4":
        return packet.size > MPEG4_EMPTY_BYTES and bytes(packet).count(MPEG4_PICTURE) == 1
    return True


def is_of_higher_layer(packet: av.Packet, codec: str, extradata: bytes) -> bool:
    """Whether a picture is of a higher temporal sub-layer (HEVC).

    It may refer to pictures that are marked as referred to by none: none of their own sub-layer.
    """
    if codec != "hevc":
        return False
    units = _units(bytes(packet), _length_size(extradata, LENGTH_SIZE_AT[codec]))
    return any(unit[0] >> 1 & 63 < HEVC_FIRST_NON_SLICE and unit[1] & 7 > 1 for unit in units if len(unit) > 1)


def _length_size(extradata: bytes, at: int) -> int:
    """Bytes of a unit's length prefix; 0 where units are separated by start codes (Annex B)."""
    return (extradata[at] & 3) + 1 if len(extradata) > at and extradata[0] == 1 else 0


def _units(data: bytes, length_size: int) -> Iterator[bytes]:
    """The network abstraction layer units of a packet."""
    at = 0
    if length_size:
        while at + length_size < len(data):
            size = int.from_bytes(data[at : at + length_size], "big")
            at += length_size
            yield data[at : at + size]
            at += size
        return
    begin = data.find(b"\0\0\1")
    while begin >= 0:
        end = data.find(b"\0\0\1", begin + 3)
        yield data[begin + 3 : end if end >= 0 else len(data)]
        begin = end


def _is_filled(data: bytes, length_size: int) -> bool:
    """Whether units with length prefixes, none of them empty, fill a packet to its end."""
    at = 0
    while at + length_size < len(data):
        size = int.from_bytes(data[at : at + length_size], "big")
        if size == 0:
            return False
        at += length_size + size
    return at == len(data)


def _h264_entry(units: Iterator[bytes]) -> bool:
    recovers = False
    for unit in units:
        kind = unit[0] & 31 if unit else 0
        if kind in H264_SLICES:
            return kind == H264_IDR or recovers
        recovers |= kind == H264_SEI and _recovers_at_once(unit[1:])
    return False


def _recovers_at_once(message: bytes) -> bool:
    """Whether an SEI unit holds a recovery point whose count of frames until recovery is 0."""
    at = 0
    while at + 2 < len(message):
        fields = []
        for _ in ("type", "size"):
            value = 0
            while at < len(message) and message[at] == 255:
                value, at = value + 255, at + 1
            if at >= len(message):
                return False
            fields.append(value + message[at])
            at += 1
        if fields[0] == SEI_RECOVERY_POINT:
            return at < len(message) and message[at] >> 7 == 1  # Exp-Golomb 0 is a single one bit
        at += fields[1]
    return False


def _hevc_entry(units: Iterator[bytes]) -> bool:
    kinds = (unit[0] >> 1 & 63 for unit in units if unit)
    return next((kind in HEVC_RANDOM_ACCESS for kind in kinds if kind < HEVC_FIRST_NON_SLICE), False)
