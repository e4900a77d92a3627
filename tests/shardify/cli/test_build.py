"""The `shardify` program as a process: exit codes, signals, and disks that fail."""

import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from builds import make_videos, run_build, tree, video_names
from click.testing import CliRunner
from media import numbered_video

from shardify.build.commit import lock_folder
from shardify.cli.main import main
from shardify.format.index import read_rows

OPTIONS = ("--frames", "4", "--size", "32", "--shard-size", "6", "--workers", "2")


def start(*arguments, **options):
    command = [sys.executable, "-m", "shardify", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def run(*arguments, **options):
    """(exit code, everything that was printed)."""
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out + err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("data"), video_names(24))


@pytest.fixture(scope="module")
def reference(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "s"
    code, printed = run("build", data, out, *OPTIONS)
    assert code == 0 and "24 inputs = 24 ok + 0 failed" in printed
    return tree(out)


def exit_code(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)]).exit_code


def test_exit_codes(data, tmp_path):
    broken = make_videos(tmp_path / "broken", video_names(4))
    (broken / "real" / "broken.mp4").touch()
    assert exit_code("build", broken, tmp_path / "a", *OPTIONS) == 0
    assert exit_code("build", broken, tmp_path / "b", *OPTIONS, "--strict") == 1
    assert exit_code("build", broken, tmp_path / "b", *OPTIONS, "--strict") == 1
    for path in broken.rglob("*.mp4"):
        path.write_bytes(b"")
    assert exit_code("build", broken, tmp_path / "c", *OPTIONS) == 1
    assert exit_code("build", data) == 2
    assert exit_code("build", data, tmp_path / "s", "--size", "5") == 2
    assert exit_code("build", data / "none", tmp_path / "s") == 2
    (tmp_path / "empty").mkdir()
    assert exit_code("build", tmp_path / "empty", tmp_path / "s") == 3
    with lock_folder(tmp_path / "held"):
        assert exit_code("build", data, tmp_path / "held", *OPTIONS) == 4


@pytest.mark.parametrize("reads_errors", [True, False])
def test_nobody_reads_on(data, reference, tmp_path, reads_errors):
    """As behind `| head`, or `|& head`: no word of it, and the next build resumes."""
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "shardify", "build", data, tmp_path / "s", *OPTIONS]
    errors = subprocess.PIPE if reads_errors else theirs
    done = subprocess.run(command, stdout=theirs, stderr=errors, text=True, timeout=120)
    os.close(theirs)
    assert done.returncode == 1
    assert all(is_expected(line) for line in (done.stderr or "").splitlines())
    run_build(data, tmp_path / "s", shard_size=6)
    assert tree(tmp_path / "s") == reference


def is_expected(line):
    """Whether it is progress, or says what was recognised."""
    return "videos (" in line or line.startswith(("class folders: ", "class 0 ", "not grouped: "))


def test_two_builders_on_one_folder(data, reference, tmp_path):
    out = tmp_path / "s"
    both = [start("build", data, out, *OPTIONS) for _ in range(2)]
    printed = {process: "".join(process.communicate(timeout=120)) for process in both}
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 4], [0, 0]), printed  # the second may come when the first is done
    assert tree(out) == reference
    assert all(process.returncode != 4 or "another build" in printed[process] for process in both)


def until_first_shard(process, out):
    while not list(out.glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(tmp_path, presses):
    data = make_videos(tmp_path / "data", video_names(40))
    out = tmp_path / "s"
    options = (*OPTIONS, "--shard-size", {1: "2", 2: "12"}[presses])
    process = start("build", data, out, *options)
    until_first_shard(process, out)
    for _ in range(presses):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "run the same command again to resume" in err
    assert not (out / "index.json").exists() and not list(out.glob(".*.tmp"))
    shard_size = int(options[-1])
    assert run_build(data, out, shard_size=shard_size).resumed_shards > 0
    run_build(data, tmp_path / "twin", shard_size=shard_size)
    assert tree(out) == tree(tmp_path / "twin")


@pytest.mark.parametrize(
    ("kind", "amount", "message"),
    [
        (resource.RLIMIT_FSIZE, 20_000, "File too large"),
        (resource.RLIMIT_NOFILE, 10, "Too many open files"),
        (resource.RLIMIT_NOFILE, 20, "Too many open files"),
    ],
)
def test_limits_of_the_system(data, reference, tmp_path, kind, amount, message):
    """Stopped with one clear line; nothing half done under a final name; the next run resumes."""
    out = tmp_path / "s"
    code, printed = run("build", data, out, *OPTIONS, preexec_fn=lambda: resource.setrlimit(kind, (amount, amount)))
    assert code == 1 and message in printed
    half = {name: value for name, value in tree(out).items() if not name.startswith(".")} if out.exists() else {}
    assert half.items() <= reference.items()
    run_build(data, out, shard_size=6)
    assert tree(out) == reference


# of temporary files
SAME_NAMES = "import secrets; secrets.token_hex = lambda n: 'same'; from shardify.__main__ import main; main()"


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("openat", "EMFILE", "Too many open files"),
        ("fsync", "ENOSPC", "No space left on device"),
        ("rename", "EIO", "Input/output error"),
    ],
)
def test_calls_that_fail(data, reference, tmp_path, call, error, message):
    """At the second shard, from one moment on: one line, nothing half done, and the next run resumes."""
    out = tmp_path / "s"
    inject = f"inject={call}:error={error}:when=1+"
    temporary = out / f".train-000001.tar.{socket.gethostname()}.same.tmp"
    trace = ["strace", "-qq", "-o", os.devnull, "-P", temporary, "-e", inject]
    process = subprocess.run(
        [*trace, sys.executable, "-c", SAME_NAMES, "build", data, out, *OPTIONS],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert process.returncode == 1
    assert [line for line in process.stderr.splitlines() if not is_expected(line)] == [
        line for line in process.stderr.splitlines() if line.startswith("error: ") and message in line
    ]
    assert {name for name in tree(out) if not name.startswith(".")} == {"train-000000.tar"}
    assert tree(out)["train-000000.tar"] == reference["train-000000.tar"]
    run_build(data, out, shard_size=6)
    assert tree(out) == reference


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_full_disk(data, reference, tmp_path):
    out = tmp_path / "s"
    out.mkdir()
    size = sum(os.path.getsize(path) for path in data.rglob("*.mp4"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={max(size, 60_000)}", "none", out]).returncode:
        pytest.skip("may not mount")
    try:
        code, printed = run("build", data, out, *OPTIONS)
        assert code == 1 and "No space left on device" in printed
        assert {n: v for n, v in tree(out).items() if not n.startswith(".")}.items() <= reference.items()
        assert subprocess.run(["mount", "-o", "remount,size=50M", out]).returncode == 0
        run_build(data, out, shard_size=6)
        assert tree(out) == reference
        assert subprocess.run(["mount", "-o", "remount,ro", out]).returncode == 0
        run_build(data, out, shard_size=6)  # complete: nothing to write
        more = make_videos(tmp_path / "more", video_names(26))
        code, printed = run("build", more, out, *OPTIONS)
        assert code == 1 and "Read-only file system" in printed
    finally:
        subprocess.run(["umount", out], check=True)


BAIT = "bait.ts"
LURES = {
    "playlist.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{bait}\n#EXTINF:9,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "concat.mp4": "ffconcat version 1.0\nfile {bait}\n",
    "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash.mkv": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>{url}/a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "concat:bait.ts.mp4": "x",
    "http:127.0.0.1.mp4": "x",
}


TRAPS = {
    "endless.ts": "raise --timeout if the file is sound",
    "endless.264": "raise --timeout if the file is sound",
    "zeros.mp4": "not a video",
    "device.mp4": "not a regular file",
    "pipe.mp4": "not a regular file",
    "giant.gif": "its pictures are too large: 60000×60000 pixels",
}


def make_traps(folder):
    """A terabyte of zeros, alone and behind a video; things that never end; pictures of 3.6 gigapixels."""
    numbered_video(folder / "endless.ts", 9, codec="mpeg2video", container_format="mpegts")
    numbered_video(folder / "endless.264", 9, container_format="h264")
    (folder / "zeros.mp4").touch()
    for name in ("endless.ts", "endless.264", "zeros.mp4"):
        os.truncate(folder / name, 1 << 40)
    (folder / "device.mp4").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.mp4")
    content = numbered_video(folder / "giant.gif", 3, codec="gif", pixel_format="rgb8").read_bytes()
    (folder / "giant.gif").write_bytes(content[:6] + struct.pack("<HH", 60_000, 60_000) + content[10:])


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_hostile_files_open_no_other_file_and_no_socket(tmp_path):
    data = make_videos(tmp_path / "data", [*video_names(4), "bait.mp4"])
    bait, url = (data / "bait.mp4").rename(data / BAIT), "http://127.0.0.1:9"
    for name, text in LURES.items():
        (data / "real" / name).write_text(text.format(bait=bait, url=url))
    make_traps(data / "real")
    bait.rename(tmp_path / BAIT)
    log = tmp_path / "log"
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", "trace=open,openat,openat2,socket,connect"]
    command += [sys.executable, "-m", "shardify", "build", data, tmp_path / "s", *OPTIONS, "--timeout", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    bad = len(LURES) + len(TRAPS)
    assert f"{4 + bad} inputs = 4 ok + {bad} failed" in result.stdout, result.stderr
    errors = {row["source"].removeprefix("real/"): row["error"] for row in read_rows(tmp_path / "s")}
    assert [name for name, reason in TRAPS.items() if reason not in errors[name]] == []
    calls = log.read_text(errors="replace")
    opened = set(re.findall(rf'"{re.escape(str(data))}/([^"]*)"', calls))
    assert opened <= {"", "real", "fake", *video_names(4), *(f"real/{name}" for name in {**LURES, **TRAPS})}
    assert "v01.mp4" in calls and "playlist.mp4" in calls
    assert BAIT not in calls.replace("concat:bait.ts.mp4", "")
    assert "AF_INET" not in calls
