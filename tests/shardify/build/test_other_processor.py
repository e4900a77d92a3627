"""The frames of a clip do not depend on the processor: videos packed here and under an emulated one of 2008."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from media import noisy_picture, numbered_video

QEMU = shutil.which("qemu-x86_64")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not QEMU, reason="takes qemu-x86_64, of Debian's package qemu-user"),
]
CODECS = {  # the format of their pixels, by the container that takes them
    "mkv": {
        "ffv1": "yuv420p", "libsvtav1": "yuv420p", "libvpx": "yuv420p", "libvpx-vp9": "yuv420p", "libx264": "yuv420p",
        "libx265": "yuv420p10le", "mjpeg": "yuvj420p", "mpeg1video": "yuv420p", "mpeg2video": "yuv420p",
        "mpeg4": "yuv420p", "prores_ks": "yuv422p10le",
    },
    "avi": {"h263p": "yuv420p", "huffyuv": "yuv422p", "msmpeg4": "yuv420p", "utvideo": "yuv420p", "wmv2": "yuv420p"},
    "flv": {"flv": "yuv420p"},
    "mov": {"dnxhd": "yuv422p", "qtrle": "rgb24"},
}  # fmt: skip
OWN = {"dnxhd": {"size": (256, 144), "options": {"profile": "dnxhr_hq"}}}  # it has least sizes
PROGRAM = """if True:  # packs in this process, since another one would not be emulated
    import json, sys
    from pathlib import Path
    import numpy
    from builds import make_job
    from shardify.build.encode import make_samples
    from shardify.format.settings import BuildSettings
    hashes = {}
    for codec in ("jpeg", "raw"):
        settings = BuildSettings(frames=4, size=48, codec=codec)
        for path in map(Path, sys.argv[1:]):
            (sample,) = make_samples(make_job(path), settings)
            hashes[f"{path.stem} {codec}"] = sample.row["payload_sha256"]
    has_avx2 = numpy._core._multiarray_umath.__cpu_features__["AVX2"]
    print(json.dumps([hashes, has_avx2]))
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("videos"), []
    for container, codecs in CODECS.items():
        for codec, pixel_format in codecs.items():
            path = folder / f"{codec}.{container}"
            own = {"size": (176, 144), "pixel_format": pixel_format} | OWN.get(codec, {})
            made.append(numbered_video(path, 9, codec=codec, picture=noisy_picture, rate=25, **own))
    return made


def test_an_old_processor_gives_the_same_payloads(videos):
    runs = ([], [QEMU, "-cpu", "Nehalem"])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    program = [sys.executable, "-c", PROGRAM, *videos]
    printed = [subprocess.check_output([*run, *program], env=environment) for run in runs]
    (here, _), (there, has_avx2) = map(json.loads, printed)
    assert not has_avx2, "nothing is emulated"
    assert len(here) == 2 * len(videos)
    assert there == here
