"""A process alone and in a group: its devices, the memory that ranks share, and how a group ends."""

import contextlib
import itertools
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
from heads import step_gradients, with_side
from runs import ALONE, SMALL, history, newest_weights, quick_results, run_small
from two_ranks import ALIKE, free_port, in_two_processes, lose_the_other, run_rank
from warm_python import warm_python

from trainer import ClipLoader
from trainer.devices.distributed import Group, join_group, leave_group, num_devices
from trainer.devices.launch import relaunch
from trainer.errors import SettingsError
from trainer.evaluation.report import figures_of
from trainer.shards.shard_set import open_shards


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
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not is_zombie and f"TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        with quick_results():
            program = stack.enter_context(warm_python(tmp_path_factory.mktemp("warm")))
        yield program


@pytest.fixture
def start(python):
    """Start a command of Python, of which nothing may be alive at the end."""
    mark = uuid.uuid4().hex
    own = {"TEST_MARK": mark, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "helpers")}

    def run(arguments, environment=os.environ):
        return subprocess.Popen(
            [python, *arguments], env={**environment, **own, "PYTHON_EXEC": python},  # with which torchrun starts ranks
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    run.mark = mark
    yield run
    for pid in alive(mark):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def launch(start):
    """Start the launcher of two sleeping ranks."""
    launcher = ["-m", "trainer.devices.launch", "--standalone", "--nproc-per-node=2", "-m", "sleeping"]
    return lambda seconds: start([*launcher, str(seconds)], {**os.environ, "TRAINER_OUT": ""})


@pytest.fixture(scope="module")
def two_ranks(shards_folder, tmp_path_factory):
    """The folder of two ranks' runs, and what each rank says."""
    folder = tmp_path_factory.mktemp("two_ranks")
    in_two_processes(run_rank, shards_folder, folder, free_port())
    return folder, *(json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))


def test_ranks_weigh_each_head_by_its_labels_in_the_whole_batch(shards_folder, two_ranks):
    gradients, sums = step_gradients(with_side(open_shards(shards_folder)), 1, ALONE)
    assert 0 < sums["clips_side"] < sums["clips_class"]
    for rank in two_ranks[1:]:
        pairs = zip(gradients, rank["gradients"], strict=True)
        assert all(torch.allclose(a, torch.tensor(b), atol=1e-6, rtol=0) for a, b in pairs)
        assert rank["sums"] == pytest.approx(sums)


def test_ranks_of_a_machine_share_the_cache(shards_folder, two_ranks):
    ranks = [rank["shared"] for rank in two_ranks[1:]]
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


def test_two_processes_train_on_the_same_global_batches(shards_folder, two_ranks, tmp_path):
    """With batch norm frozen, the weights of one process."""
    out = two_ranks[0] / "together"
    two = json.loads((out / "results" / "experiment_results.json").read_text())
    assert two["environment"]["device"].startswith("2 × CPU")
    one = run_small(shards_folder, tmp_path / "one", *ALIKE)
    assert figures_of(two["test"]) == pytest.approx(figures_of(one["test"]), rel=1e-4)
    rows = [history(folder) for folder in (tmp_path / "one", out)]
    for a, b in zip(*rows, strict=True):
        assert {name: float(value) for name, value in b.items()} == pytest.approx(
            {name: float(value) for name, value in a.items()}, rel=1e-4
        )
    a, b = (newest_weights(folder) for folder in (tmp_path / "one", out))
    for name in a:
        if name == "attention.in_proj_bias":  # that of the keys has no gradient but rounding, which Adam magnifies
            a[name], b[name] = (torch.cat((bias[:16], bias[32:])) for bias in (a[name], b[name]))
        assert torch.allclose(a[name], b[name], atol=1e-5), (name, (a[name] - b[name]).abs().max())


def test_ranks_that_would_start_from_different_things_all_end_and_one_folder_is_enough(two_ranks):
    folder, *ranks = two_ranks
    ends = [rank["ends"] for rank in ranks]
    first, host = folder / "machine-0" / "first", socket.gethostname()
    assert ends[0]["first"] == ends[1]["first"] == 1
    assert (first / "results" / "experiment_results.json").is_file()
    assert ends[0]["resumed"] == ends[1]["resumed"] in (1, 2), "by the main rank's checkpoint alone"
    assert len(history(first)) == 2
    assert not (folder / "machine-1" / "first").exists()
    differs = f"process 1 on {host} has other settings or files than process 0 on {host}: "
    results = folder / "machine-0" / "unwritable" / "results"
    for name, code, message in [
        ("unwritable", 1, f"process 0 on {host}: [Errno 21] Is a directory: '{results}/.training"),
        ("settings", 1, f"{differs}optimizer.clip_norm 2.0 instead of 1.0; all need the same"),
        ("shards", 1, f"process 1 on {host}: {folder / 'nowhere'}: is not a folder"),
        ("taken", 2, f"process 0 on {host}: {folder / 'machine-0' / 'taken'} holds results, but no run; pass an empty"),
    ]:
        assert [end[name][:2] for end in ends] == [["GroupError", code]] * 2
        assert all(end[name][2].startswith(message) for end in ends), ends
    assert ends[0]["unlike"] == ends[1]["unlike"] in (1, 2), "the best epoch, by the main rank's validation"


def test_ranks_wait_for_the_main_one_and_end_as_it_does(two_ranks):
    waited = [rank["waited"] for rank in two_ranks[1:]]
    assert waited == [
        ["went on", said] for said in ("the disk is full", f"process 0 on {socket.gethostname()}: the disk is full")
    ]


def test_ranks_wait_for_all_and_end_as_one_of_them_does(two_ranks):
    waited = [rank["waited for all"] for rank in two_ranks[1:]]
    assert waited == [["went on", f"process 1 on {socket.gethostname()}: no room"]] * 2


def test_what_stops_one_rank_stops_all_with_one_checkpoint(two_ranks):
    """The session's time on both of them, a signal to one."""
    folder, *ranks = two_ranks
    for name, reason in (("over", "max_hours is over"), ("stopped", "stopped by SIGTERM at epoch 1, step 1;")):
        ends = [rank["ends"][name] for rank in ranks]
        assert [end[:2] for end in ends] == [["Interrupted", 75]] * 2
        assert any(end[2].startswith(reason) for end in ends) and "a checkpoint is written" in ends[0][2]
        assert any((folder / "machine-0" / name / "checkpoints").iterdir())
    assert [path.name[:13] for path in (folder / "machine-0/stopped/checkpoints").iterdir()] == ["step-00000001"]


def test_a_rank_knows_that_the_other_has_gone_which_leaves_no_memory_behind(tmp_path):
    before = set(Path("/dev/shm").iterdir())
    in_two_processes(lose_the_other, tmp_path, free_port())
    assert not {path for path in Path("/dev/shm").iterdir() if path.name.startswith("torch")} - before
    assert (tmp_path / "said").read_text().startswith("True: ")


def test_a_second_ctrl_c_over_ranks_ends_at_once_and_not_as_a_run_to_go_on_with(launch, start):
    """Where nothing was written; these processes are at no step boundary for a long time."""
    with launch(seconds=600) as process:
        assert {process.stdout.readline().split()[0] for _ in range(2)} == {"0", "1"}
        process.send_signal(signal.SIGINT)
        assert [process.stdout.readline() for _ in range(2)] == ["stopped by SIGINT\n"] * 2
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.communicate(timeout=20)[0]
    assert process.returncode == 128 + signal.SIGINT
    assert not alive(start.mark)


def test_a_signal_leaves_a_checkpoint_and_no_process(shards_folder, tmp_path, start, monkeypatch):
    """As with two GPUs, but on the CPU; of what both have to say, there is one line."""
    overrides = [part for text in (*SMALL, "epochs=1000000", "data.cache=ram") for part in ("--set", text)]
    arguments = ["--shards", str(shards_folder), "--out", str(tmp_path / "run"), "--devices", "cpu", *overrides]
    became = []
    monkeypatch.setattr(os, "execve", lambda *command: became.append(command))
    relaunch(2, arguments, tmp_path / "run")
    ((program, command, environment),) = became
    assert program == command[0] == sys.executable
    with start(command[1:], environment | {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}) as process:
        begun = "".join(itertools.takewhile(lambda line: not line.startswith("epoch 2/"), process.stdout))
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert begun.count("Kaggle ends sessions") == 1
    assert "stopped by SIGINT at epoch" in said and said.count("a checkpoint is written") == 1
    assert process.returncode == 75
    assert "Traceback" not in said and "ChildFailedError" not in said
    assert not alive(start.mark)
    assert any((tmp_path / "run" / "checkpoints").iterdir())


def test_a_killed_rank_ends_the_others_within_a_minute(launch, start):
    with launch(seconds=0) as process:
        ranks = dict(process.stdout.readline().split() for _ in range(2))
        os.kill(int(ranks["0"]), signal.SIGKILL)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signal.SIGKILL
    assert "stopped by SIGTERM" in said
    assert "error: process 0 was ended by SIGKILL; if memory ran out, use data.cache=none" in said
    assert not alive(start.mark)


@pytest.fixture
def two_nodes(start, shards_folder, tmp_path, monkeypatch):
    """Start the launchers of two nodes, each in a folder of its own below `tmp_path`, with a rank each."""
    monkeypatch.setenv("TRAINER_OUT", "")
    settings = [part for text in (*SMALL, "data.cache=ram") for part in ("--set", text)]

    def run(*arguments):
        port, processes = free_port(), []
        for node in range(2):
            (tmp_path / f"node-{node}").mkdir(exist_ok=True)
            monkeypatch.chdir(tmp_path / f"node-{node}")
            launcher = ["--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
            program = [f"--master-port={port}", "-m", "trainer", "--shards", str(shards_folder), "--devices", "cpu"]
            processes.append(start(["-m", "trainer.devices.launch", *launcher, *program, *settings, *arguments]))
        return processes

    return run


def test_nodes_with_folders_of_their_own(two_nodes, start, tmp_path):
    """A signal to one stops both with one checkpoint, from which both resume to the end; only the first one writes."""
    first, second = two_nodes("--set", "epochs=1000000")
    begun = "".join(itertools.takewhile(lambda line: not line.startswith("epoch 2/"), first.stdout))
    second.send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [75, 75], (begun, said)
    assert said[0].count("error: ") == said[0].count("a checkpoint is written") == 1 and said[1] == ""
    run = tmp_path / "node-0" / "runs" / "run"
    assert not (run / "results" / "experiment_results.json").exists()
    first, second = two_nodes("--set", "epochs=1", "--resume")
    said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    assert "results: runs/run/results" in said[0] and said[1] == ""
    assert (run / "results" / "experiment_results.json").is_file() and not os.listdir(tmp_path / "node-1")
    assert not alive(start.mark)


def test_a_killed_node_ends_the_other_with_one_line(two_nodes, start):
    first, _ = two_nodes("--set", "epochs=1000000")
    for line in first.stdout:
        if line.startswith("epoch 1/"):
            break
    second_node = [pid for pid in alive(start.mark) if "node-1" in os.readlink(f"/proc/{pid}/cwd")]
    assert len(second_node) >= 2
    for pid in second_node:
        os.kill(pid, signal.SIGKILL)
    said = first.communicate(timeout=60)[0]
    assert first.returncode == 1
    (line,) = (line for line in said.splitlines() if line.startswith("error"))
    assert line.startswith("error: another process of the run has ended or does not answer (")
    assert "Traceback" not in said


def test_a_wrong_option_of_the_launcher_is_one_line(start):
    with start(["-m", "trainer.devices.launch", "--nproc-per-node=many", "-m", "sleeping"]) as process:
        assert process.communicate(timeout=60)[0] == "error: Unsupported nproc_per_node value: many\n"
    assert process.returncode == 2
