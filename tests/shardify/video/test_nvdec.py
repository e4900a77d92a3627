import numpy as np
import pytest
from builds import SMALL, make_videos
from click.testing import CliRunner
from media import numbered_video

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.cli.main import main
from shardify.errors import UsageError, VideoError
from shardify.format.settings import BuildSettings
from shardify.video import nvdec
from shardify.video.decode import decode_video


def gpu_is_missing() -> str:
    try:
        nvdec.check_cuda()
    except UsageError as error:
        return str(error)
    return ""


MISSING = gpu_is_missing()
needs_gpu = pytest.mark.skipif(bool(MISSING), reason=MISSING)
needs_none = pytest.mark.skipif(not MISSING, reason="a GPU decodes here")


@needs_none
def test_without_a_gpu_the_cpu_decodes_the_same_pictures(tmp_path):
    video = numbered_video(tmp_path / "a.mp4", 40)
    cpu, cuda = decode_video(video), decode_video(video, decoder="cuda")
    assert (cuda.decoder, cuda.decode_errors) == ("cpu", 0)
    assert np.array_equal(cpu.clips[0].frames, cuda.clips[0].frames)


@needs_none
def test_a_bad_file_has_the_same_reason(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(numbered_video(tmp_path / "whole.mp4", 40).read_bytes()[:900])
    reasons = set()
    for decoder in ("cpu", "cuda"):
        with pytest.raises(VideoError) as caught:
            decode_video(path, decoder=decoder)
        reasons.add(str(caught.value))
    assert len(reasons) == 1


@needs_none
def test_a_build_without_a_gpu_says_so_and_writes_nothing(tmp_path):
    data = make_videos(tmp_path / "data", ["real/one.mp4", "fake/two.mp4"])
    result = CliRunner().invoke(main, ["build", str(data), str(tmp_path / "shards"), "--decoder", "cuda"])
    assert result.exit_code == 2 and "no GPU that decodes video" in result.output and "--decoder cpu" in result.output
    assert not (tmp_path / "shards").exists()


def test_a_folder_is_built_by_one_kind_of_decoder(tmp_path):
    data = make_videos(tmp_path / "data", ["real/one.mp4", "fake/two.mp4"])
    build(BuildRequest(data, tmp_path / "shards", BuildSettings(**SMALL), workers=1))
    with pytest.raises(UsageError, match="decoder cpu → cuda"):
        build(BuildRequest(data, tmp_path / "shards", BuildSettings(**SMALL, decoder="cuda"), workers=1))


@pytest.mark.needs_cuda
@needs_gpu
@pytest.mark.parametrize(
    ("codec", "pixel_format"), [("libx264", "yuv420p"), ("libx265", "yuv420p10le"), ("libvpx-vp9", "yuv420p")]
)
def test_the_gpu_gives_the_same_frames_within_two_levels(tmp_path, codec, pixel_format):
    video = numbered_video(tmp_path / "a.mp4", 60, size=(320, 240), codec=codec, pixel_format=pixel_format)
    cpu, cuda = decode_video(video), decode_video(video, decoder="cuda")
    assert cuda.decoder == "cuda" and cuda.clips[0].pts_seconds == cpu.clips[0].pts_seconds
    assert np.abs(cuda.clips[0].frames.astype(int) - cpu.clips[0].frames).max() <= 2


@pytest.mark.needs_cuda
@needs_gpu
def test_what_the_gpu_cannot_do_is_decoded_by_the_cpu(tmp_path):
    video = numbered_video(tmp_path / "a.mkv", 60, size=(320, 240), codec="ffv1", pixel_format="yuv444p")
    assert decode_video(video, decoder="cuda").decoder == "cpu"
