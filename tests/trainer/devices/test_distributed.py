"""A process alone and in a group: its devices, the memory that ranks share, and how a group ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SMALL

from trainer import ClipLoader
from trainer.devices.distributed import Group, join_group, leave_group, num_devices
from trainer.errors import SettingsError


def test_alone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    group = join_group(use_gpu=False)
    assert group == Group(0, 1, torch.device("cpu"))
    assert group.is_main
    assert not Group(1, 2, torch.device("cpu")).is_main
    assert (group.any(True), group.any(False)) == (True, False)
    values = np.arange(6).reshape(3, 2)
    assert group.gather(values) is values
    leave_group(group)


def test_devices():
    count = torch.cuda.device_count()
    assert (num_devices("auto"), num_devices("cpu")) == (count, 0)
    for wrong in ("gpu", "0", "-1", "1.5", "", str(count + 1)):
        with pytest.raises(SettingsError, match=f"--devices is {wrong}"):
            num_devices(wrong)


def alive(mark):
    """The processes, started by a test, that have `mark` in their environment: torchrun gives each rank its session."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not is_zombie and f"TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = dict(
                    entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if "=" in entry
                )
        except OSError:
            continue
    return found


@pytest.fixture
def start(monkeypatch):
    """Start a module on some ranks; at the end nothing of it may be alive."""
    mark = uuid.uuid4().hex
    for name, value in {
        "TEST_MARK": mark,
        "TRAINER_OUT": "",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2] / "helpers"),
    }.items():
        monkeypatch.setenv(name, value)

    def run(ranks, module, *arguments):
        launcher = ["-m", "trainer.devices.launch", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", module, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    run.mark = mark
    yield run
    for pid in alive(mark):
        os.kill(pid, signal.SIGKILL)


def test_ranks_of_a_machine_share_the_cache(shards_folder, start):
    out, errors = start(2, "sharing", shards_folder).communicate(timeout=120)
    ranks = sorted((json.loads(line) for line in out.splitlines() if line.startswith("{")), key=lambda row: row["rank"])
    assert len(ranks) == 2, errors
    plain = ClipLoader(shards_folder, batch_size=4)
    for epoch in range(3):
        parts = [rank["epochs"][epoch] for rank in ranks]
        assert sum(part["reads"] for part in parts) == (20 if epoch == 0 else 0), "each clip once per machine"
        batches = list(plain.batches(epoch))
        numbers = [[*a, *b] for a, b in zip(*(part["numbers"] for part in parts), strict=True)]
        assert numbers == [batch.numbers.tolist() for batch in batches]
        expected = [zlib.crc32(clip.numpy().tobytes()) for batch in batches for clip in batch.clips]
        steps = zip(*(np.array(part["pixels"]).reshape(-1, 2) for part in parts), strict=True)
        assert np.array_equal(np.concatenate([part for step in steps for part in step]), expected)
    assert [rank["hit_rate"] for rank in ranks] == [pytest.approx(2 / 3)] * 2


def test_ranks_that_would_start_from_different_things_all_end_and_one_folder_is_enough(shards_folder, tmp_path, start):
    out, errors = start(2, "two_folders", shards_folder, tmp_path).communicate(timeout=240)
    ranks = {
        row["rank"]: row["ends"] for row in map(json.loads, filter(lambda line: line[:1] == "{", out.splitlines()))
    }
    assert set(ranks) == {0, 1}, errors
    first, host = tmp_path / "machine-0" / "first", socket.gethostname()
    assert ranks[0]["first"] == ranks[1]["first"] == 1
    assert (first / "results" / "experiment_results.json").is_file() and not (tmp_path / "machine-1" / "first").exists()
    differs = f"process 1 on {host} has other settings or files than process 0 on {host}: "
    (checkpoint,) = (first / "checkpoints").iterdir()
    for name, code, message in [
        ("resumed", 2, f"{differs}checkpoint None instead of {checkpoint.name}"),
        ("settings", 2, f"{differs}optimizer.clip_norm 2.0 instead of 1.0; all need the same"),
        ("shards", 1, f"process 1 on {host}: {tmp_path / 'nowhere'}: is not a folder"),
        (
            "taken",
            2,
            f"process 0 on {host}: {tmp_path / 'machine-0' / 'taken'} holds results, but no run; pass an empty",
        ),
    ]:
        assert [ends[name][:2] for ends in ranks.values()] == [["GroupError", code]] * 2
        assert all(ends[name][2].startswith(message) for ends in ranks.values()), ranks
    assert ranks[0]["unlike"] == ranks[1]["unlike"] in (1, 2), "the best epoch, by the main rank's validation"
    assert [ends["stopped"][:2] for ends in ranks.values()] == [["Interrupted", 75]] * 2
    assert ranks[1]["stopped"][2].startswith("stopped by SIGTERM at epoch 1, step 1; a checkpoint is written")
    assert [path.name[:13] for path in (tmp_path / "machine-0/stopped/checkpoints").iterdir()] == ["step-00000001"]


def begin_endless_run(start, ranks, shards_folder, out):
    """Two or more epochs into a run that would take for ever."""
    overrides = [part for text in (*SMALL, "epochs=1000000", "data.cache=ram") for part in ("--set", text)]
    os.environ["TRAINER_OUT"] = str(out)  # as where the trainer starts the launcher; `start` puts it back
    process = start(ranks, "trainer", "--shards", shards_folder, "--out", out, "--devices", "cpu", *overrides)
    assert any(line.startswith("epoch 2/") for line in process.stderr)
    return process


def test_a_second_ctrl_c_over_ranks_ends_at_once_and_not_as_a_run_to_go_on_with(tmp_path, start, monkeypatch):
    """Where nothing was written; these processes are at no step boundary for a long time."""
    monkeypatch.setenv("TRAINER_OUT", str(tmp_path / "run"))
    process = start(2, "sleeping")
    assert [process.stdout.readline().strip() for _ in range(2)] == ["asleep"] * 2
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline().strip() == "stopped by SIGINT"
    os.kill(process.pid, signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said and not alive(start.mark)


@pytest.mark.parametrize(("ranks", "stop"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_leaves_a_checkpoint_and_no_process(shards_folder, tmp_path, start, ranks, stop):
    with begin_endless_run(start, ranks, shards_folder, tmp_path / "run") as process:
        os.killpg(process.pid, stop)
        said = process.communicate(timeout=60)[1]
    assert f"stopped by {stop.name} at epoch" in said
    assert process.returncode == 75
    assert "Traceback" not in said and "ChildFailedError" not in said
    assert not alive(start.mark)
    assert any((tmp_path / "run" / "checkpoints").iterdir())


def test_a_run_that_ends_early_on_two_ranks_says_so_once_and_by_its_exit_code(shards_folder, tmp_path, start):
    overrides = [part for text in (*SMALL, "epochs=1000000", "max_hours=0.0005") for part in ("--set", text)]
    arguments = ("--shards", shards_folder, "--out", tmp_path / "run", "--devices", "cpu", *overrides)
    with start(2, "trainer", *arguments) as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    assert said.count("a checkpoint is written") == 1
    assert any((tmp_path / "run" / "checkpoints").iterdir())
    assert "Traceback" not in said


def test_a_killed_rank_ends_the_others_within_a_minute(shards_folder, tmp_path, start):
    before = set(Path("/dev/shm").iterdir())
    with begin_endless_run(start, 2, shards_folder, tmp_path / "run") as process:
        ranks = {environment.get("LOCAL_RANK"): pid for pid, environment in alive(start.mark).items()}
        os.kill(ranks["0"], signal.SIGKILL)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGKILL
    assert "error: process 0 was ended by SIGKILL; if memory ran out, use data.cache=none" in said
    assert not alive(start.mark)
    assert not {path for path in Path("/dev/shm").iterdir() if path.name.startswith("torch")} - before
