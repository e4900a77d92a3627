"""`python -m trainer`: figures and paths on success, one line and an exit code on failure."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from runs import SMALL

from trainer.__main__ import choose_out, main

SET = [part for text in SMALL for part in ("--set", text)]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the command in an empty working folder; (exit code, standard output, standard error)."""
    monkeypatch.setenv("TRAINER_OUT", "")  # the command sets it
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments), "--devices", "cpu", *SET])
        return result.exit_code, result.stdout, result.stderr

    return run


def test_help_is_quick_and_needs_no_torch():
    code = "import sys; sys.modules |= dict.fromkeys(('torch', 'matplotlib', 'sklearn', 'av')); sys.argv = ['trainer', '--help']; from trainer.__main__ import main; main()"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--shards", "--config", "--out", "--resume", "--devices", "--set"):
        assert option in done.stdout


def test_runs_are_named_after_their_config_and_never_overwritten(command, shards_folder, tmp_path):
    (tmp_path / "fast.yaml").write_text("epochs: 1\n")
    code, out, _ = command("--shards", shards_folder, "--config", "fast.yaml", "--set", "epochs=1")
    assert code == 0
    assert out.splitlines()[0].startswith("test (8 clips): loss ")
    assert "results: runs/fast/results; best model: runs/fast/models/best_model.pth" in out
    assert command("--shards", shards_folder, "--config", "fast.yaml")[0] == 0
    assert sorted(os.listdir("runs")) == ["fast", "fast-2"]
    code, _, err = command("--shards", shards_folder, "--out", "runs/fast")
    assert (code, err) == (
        2,
        "error: runs/fast holds a run already; pass --resume to go on with it, or another --out\n",
    )


def test_resume_takes_the_newest_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(choose_out(None, None, True)) == "runs/run"
    for name in ("run", "run-2", "run-10", "runner", "run-x"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert str(choose_out(None, None, True)) == "runs/run-10"
    assert str(choose_out(None, None, False)) == "runs/run-11"


def break_shard(shards):
    with open(shards / "train-000000.tar", "r+b") as file:
        file.truncate(3000)


@pytest.mark.parametrize(
    ("damage", "extra", "code", "message"),
    [
        (lambda shards: (shards / "index.json").unlink(), [], 1, "the build is unfinished"),
        (lambda shards: (shards / "val-000000.tar").unlink(), [], 1, "val-000000.tar is missing"),
        (break_shard, [], 1, "train-000000.tar: clip "),
        (None, ["--set", "epoch=3"], 2, "did you mean epochs?"),
        (None, ["--set", "model.weights=no.pth"], 2, "no.pth is not a file"),
        (None, ["--set", "model.attention_heads=5"], 2, "must divide"),
        (None, ["--set", "model.name=runs:Stopping"], 2, "model.backbone is tiny, but only resnet_lstm has it"),
        (None, ["--config", "no.yaml"], 2, "no.yaml"),
        (None, ["--devices", "many"], 2, "--devices is many"),
        (None, ["--devices", "99"], 2, "--devices is 99, but"),
        (None, ["--set", "max_hours=1e-9"], 75, "--resume goes on"),
    ],
)
def test_failures_are_one_line(command, own_shards, damage, extra, code, message):
    if damage:
        damage(own_shards)
    result = CliRunner().invoke(main, ["--shards", str(own_shards), "--out", "run", "--devices", "cpu", *SET, *extra])
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output


def test_folders_of_other_things(command, data_folder, tmp_path):
    for folder in ("run/models", "run/results"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    expected = {data_folder: "is no shards folder; make one with", tmp_path / "run": "is the folder of a run, not of"}
    for folder, message in expected.items():
        code, printed, said = command("--shards", folder)
        assert (code, printed, said.count("\n")) == (1, "", 1)
        assert said.startswith(f"error: {folder}: {message}")


def test_no_shards_folder(command):
    code, printed, said = command("--shards", "nowhere")
    assert (code, printed, said.count("\n")) == (1, "", 1)
    assert said.startswith("error: nowhere: is not a folder, a tar or a data set mounted here (looked for nowhere, ")
