import pytest

from shardify.errors import VideoError
from shardify.video.container import open_video

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (POINTER, "a Git LFS pointer, not the video; run git lfs pull"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html>\n<title>Sign in</title>", "a web page"),
        (b"<html><body>404</body></html>", "a web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML, not a video"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
        (b"no video at all", "not a video, or damaged beyond reading"),
    ],
)
def test_what_is_no_video_is_called_by_its_name(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=reason), open_video(path) as file, file.demuxer():
        pass
