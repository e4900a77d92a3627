"""Files that end too early: what can be decoded of them, or the reason why nothing can."""

import pytest
from media import numbered_video

from shardify.errors import VideoError
from shardify.video.decode import decode_video


@pytest.mark.parametrize("name", ["front.mp4", "end.mp4", "a.mkv", "a.avi", "a.ts", "a.mpg", "a.flv", "a.wmv", "a.gif"])
def test_every_cut_of_a_file_gives_frames_or_a_reason(tmp_path, name):
    """In the header, in the index, between packets and inside them."""
    codec, pixel_format = {"a.mpg": ("mpeg2video", "yuv420p"), "a.wmv": ("wmv2", "yuv420p")}.get(
        name, ("gif", "rgb8") if name == "a.gif" else ("libx264", "yuv420p")
    )
    container = {"movflags": "faststart"} if name == "front.mp4" else {}
    path = numbered_video(
        tmp_path / name, 20, codec=codec, pixel_format=pixel_format, options={"bf": "0"} if codec != "gif" else {},
        container_options=container,
    )  # fmt: skip
    whole = path.read_bytes()
    decoded, reasons = [], []
    for end in [*range(0, 60, 3), *range(60, len(whole), max(1, len(whole) // 40))]:
        path.write_bytes(whole[:end])
        try:
            decoded.append(decode_video(path, size=64).info.num_frames)
        except VideoError as error:
            reasons.append(str(error))
    assert reasons[0] == "the file is empty" and all("\n" not in reason for reason in reasons)
    assert decoded == sorted(decoded)
    assert decoded[-1] >= 18
    if name == "end.mp4":  # without its index, which stands at the end, an mp4 is nothing
        assert len(decoded) < 5 < len(reasons)
