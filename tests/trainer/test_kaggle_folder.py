"""Training from a data set as Kaggle mounts it: read-only, each tar unpacked, only preinstalled packages at hand."""

import csv
import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest
import yaml
from click.testing import CliRunner
from runs import SMALL

from trainer.__main__ import main
from trainer.config.session import MARGIN_HOURS, SESSION_HOURS, runs_folder, with_session_limit
from trainer.config.settings import Settings
from trainer.data.loader import ClipLoader
from trainer.errors import FormatError
from trainer.shards.locate import find_shards

# not preinstalled at Kaggle
NOT_THERE = ("av", "webdataset", "simplejpeg", "zlib_ng", "pebble", "datasets", "onnx", "onnxruntime")
OF_OTHERS = ("timm", "transformers", "diffusers")  # of other models and tasks
DAC_OVERRIDE, DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def obey_permissions():
    """Root may write anywhere unless it gives that up, which it does with the next exec."""
    for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def python(code, *arguments, cwd, **environment):
    """A fresh interpreter that obeys permissions and lacks what Kaggle lacks, and what others need."""
    code = f"import sys; sys.modules |= dict.fromkeys({(*NOT_THERE, *OF_OTHERS)!r})\n{code}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, preexec_fn=obey_permissions,
    )  # fmt: skip


def tree_below(folder):
    """Name, permissions, time and content of everything below a folder."""
    content = {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*") if path.is_file()}
    return {path: (path.stat().st_mode, path.stat().st_mtime_ns, content.get(path)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def kaggle(shards_folder, tmp_path_factory):
    """A folder like /kaggle: input/datasets/ann/clips, unpacked and read-only, and working/."""
    root = tmp_path_factory.mktemp("kaggle")
    mount = root / "input" / "datasets" / "ann" / "clips"
    mount.mkdir(parents=True)
    (root / "working").mkdir()
    for path in shards_folder.iterdir():
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                tar.extractall(mount / path.stem, filter="data")
        else:
            (mount / path.name).write_bytes(path.read_bytes())
    for path in [*(root / "input").rglob("*"), root / "input"]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    probe = python(f"open({str(mount / 'new')!r}, 'w')", cwd=root)
    if "PermissionError" not in probe.stderr:
        pytest.skip("this user may write to read-only folders, and the test could not give that right up")
    yield root
    for path in [root / "input", *(root / "input").rglob("*")]:
        path.chmod(0o755)


# few resamples are soon made, and pictures without content; the data sets lie elsewhere than in /kaggle
PROGRAM = """
import functools, importlib, json, pathlib
from click.testing import CliRunner
import trainer.config.session, trainer.shards.locate, trainer.shards.shard_set
from runs import quick_results
from trainer.__main__ import main
commands, root = json.loads(sys.argv.pop()), pathlib.Path(sys.argv.pop())
trainer.config.session.WORKING = root / "working"
trainer.shards.shard_set.find_shards = functools.partial(trainer.shards.locate.find_shards, kaggle_input=root / "input")
with quick_results():
    main(standalone_mode=False)
    said = []
    for module, arguments, environment in commands:
        found = importlib.import_module(module).main
        result = CliRunner().invoke(found, arguments, env=environment)
        said.append([module, result.exit_code, result.output])
(root / "said.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def trained(kaggle):
    """The finished command, started inside the read-only data set, and what the mount was before it.

    The commands that need a run follow in the same process: to start torch takes most of the time.
    """
    before = tree_below(kaggle / "input")
    run, scores = str(kaggle / "working/runs/run"), str(kaggle / "scores.csv")
    commands = [
        ("trainer.evaluate", ["--run", run, "--shards", "ann/clips", "--csv", scores, "--devices", "cpu"], {}),
        ("trainer.audit", ["--shards", "ann/clips"], {}),
        ("trainer.export", ["--run", run, "--format", "safetensors"], {}),
        ("shardify.cli.main", ["info", str(kaggle / "input/datasets/ann/clips")], {}),
        ("trainer.predict", ["--run", run, "x.mp4"], {}),
        ("trainer.__main__", ["--shards", "no/where"], {"KAGGLE_KERNEL_RUN_TYPE": ""}),
    ]
    settings = [part for text in (*SMALL, "epochs=1") for part in ("--set", text)]
    done = python(
        PROGRAM, "--shards", "ann/clips", "--devices", "cpu", *settings, kaggle, json.dumps(commands),
        cwd=kaggle / "input", KAGGLE_KERNEL_RUN_TYPE="Batch", PYTHONPATH=os.pathsep.join(sys.path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, before, json.loads((kaggle / "said.json").read_text())


def test_training_leaves_the_mount_as_it_was(kaggle, trained):
    assert tree_below(kaggle / "input") == trained[1]


def test_the_run_is_in_the_working_folder(kaggle, trained):
    run = kaggle / "working" / "runs" / "run"
    assert str(run / "results") in trained[0].stdout
    assert json.loads((run / "results" / "experiment_results.json").read_text())["test"]["clips"] == 8
    assert os.listdir(kaggle / "working") == ["runs"]


def test_the_log_is_lines_and_names_the_sessions_limit(kaggle, trained):
    log = trained[0].stderr
    assert "\r" not in log and "\x1b" not in log
    (line,) = (line for line in log.splitlines() if "max_hours" in line)
    hours = yaml.safe_load((kaggle / "working/runs/run/config.yaml").read_text())["max_hours"]
    assert 0 < hours <= SESSION_HOURS - MARGIN_HOURS
    assert line == f"Kaggle ends sessions after 12 h: max_hours is {hours}"


def test_all_that_decodes_no_video_runs_there(kaggle, trained):
    said = trained[2][:-2]
    assert len(said) == 4 and [result for result in said if result[1]] == []
    assert len(list(csv.reader((kaggle / "scores.csv").open()))) == 1 + 8


def test_predicting_without_a_decoder_is_one_line(trained):
    name, code, said = trained[2][-2]
    assert (name, code, said.count("\n")) == ("trainer.predict", 1, 1)
    assert said.startswith("error: ") and "pip install" in said and "av" in said


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_read(kaggle, trained):
    """Where nothing says that this is Kaggle."""
    expected = f"error: {kaggle / 'input'} cannot be written to; pass another folder with --out\n"
    assert trained[2][-1] == ["trainer.__main__", 2, expected]


@pytest.mark.parametrize("name", ["ann/clips", "INPUT/clips", "INPUT/datasets/ann/clips"])
@pytest.mark.parametrize("mount", ["datasets/ann/clips", "clips"])
def test_either_mount_is_found_by_every_name(shards_folder, tmp_path, monkeypatch, name, mount):
    place = tmp_path / mount
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(shards_folder)
    assert find_shards(name.replace("INPUT", str(tmp_path)), tmp_path) == (place, None)
    monkeypatch.chdir(place)
    assert find_shards(".", tmp_path) == (Path("."), None)


def test_an_unknown_name_lists_what_is_mounted(kaggle):
    with pytest.raises(FormatError, match=r"mounted are ann/clips$"):
        find_shards("ann/clip", kaggle / "input")


def test_a_flipped_bit_of_an_unpacked_clip_is_named(kaggle, shards_folder, tmp_path):
    mount = shutil.copytree(kaggle / "input/datasets/ann/clips", tmp_path / "clips")
    victim = sorted(mount.glob("val-000000/*.jpg"))[2]
    victim.chmod(0o644)
    payload = bytearray(victim.read_bytes())
    payload[len(payload) // 2] ^= 1
    victim.write_bytes(payload)
    with pytest.raises(FormatError, match=f"val-000000: clip {victim.stem}: payload differs from the index"):
        list(ClipLoader(mount, "val"))


def test_out_that_cannot_be_written_is_one_line(shards_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINER_OUT", "")  # the command sets it
    (tmp_path / "file").touch()
    settings = [part for text in SMALL for part in ("--set", text)]
    arguments = ["--shards", str(shards_folder), "--out", str(tmp_path / "file" / "run"), "--devices", "cpu"]
    result = CliRunner().invoke(main, [*arguments, *settings])
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ") and "Not a directory" in line and "--resume" in line


def test_the_session_limit_counts_from_the_containers_start(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert with_session_limit(Settings()).max_hours is None
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    age = psutil.time.time() - psutil.Process(1).create_time()
    expected = SESSION_HOURS - MARGIN_HOURS - (age / 3600 if age / 3600 < SESSION_HOURS else 0)
    assert with_session_limit(Settings()).max_hours == pytest.approx(max(expected, 0.1), abs=0.02)
    assert with_session_limit(Settings(max_hours=3)).max_hours == 3


def test_runs_stay_here_where_here_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    monkeypatch.chdir(tmp_path)
    assert runs_folder() == Path("runs")
