import os
import signal
import subprocess
import sys

import pytest
from builds import make_videos, run_build, tree, video_names

from shardify.build import build as build_module
from shardify.build.encode import pack_videos
from shardify.interrupt import INTERRUPTED, RESUME, Interrupts

PRESS = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"


def run_with(folder, module, text, *arguments):
    """`shardify` in a process that finds `module` made of `text` before any other of that name."""
    (folder / f"{module}.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "shardify", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_while_the_program_starts(tmp_path):
    done = run_with(tmp_path, "click", PRESS, "--version")
    assert (done.returncode, done.stderr) == (INTERRUPTED, f"{RESUME}\n")


def test_while_the_program_ends(tmp_path):
    """The command is done: its exit code stands, whether Python's shutdown has begun or not."""
    done = run_with(
        tmp_path, "sitecustomize", f"import atexit\n@atexit.register\ndef press():\n    {PRESS}", "--version"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_once_is_noted_twice_raises_and_a_third_time_does_not_stop_the_clearing_up(capfd):
    before, cleared = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        assert interrupts.requested and "press Ctrl-C again" in capfd.readouterr().err
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            cleared.append("up")
    assert cleared == ["up"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("presses", [1, 2])
def test_once_finishes_the_shard_in_hand_and_twice_does_not(tmp_path, monkeypatch, presses):
    """Pressed at the second video of the second shard."""
    data, out = make_videos(tmp_path / "data", video_names(24)), tmp_path / "s"

    def press(*args, **kwargs):
        for number, outcome in enumerate(pack_videos(*args, **kwargs)):
            if number == 5:
                for _ in range(presses):
                    signal.raise_signal(signal.SIGINT)
            yield outcome

    monkeypatch.setattr(build_module, "pack_videos", press)
    with pytest.raises(KeyboardInterrupt):
        run_build(data, out)
    assert len(list(out.glob("*.tar"))) == {1: 2, 2: 1}[presses]
    assert not list(out.glob(".*.tmp"))
    monkeypatch.undo()
    assert run_build(data, out).resumed_shards == {1: 2, 2: 1}[presses]
    run_build(data, tmp_path / "twin")
    assert tree(out) == tree(tmp_path / "twin")
