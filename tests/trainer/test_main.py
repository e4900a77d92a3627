"""`python -m trainer`: figures and paths on success, one line and an exit code on failure."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from runs import SMALL, quick_results

from trainer.__main__ import load, main
from trainer.audit import main as audit
from trainer.config.options import Command
from trainer.config.run_folder import settings_of
from trainer.encode import main as encode
from trainer.errors import SettingsError, first_sentence
from trainer.evaluate import main as evaluate
from trainer.explain import main as explain
from trainer.export import main as export
from trainer.generate import main as generate
from trainer.predict import main as predict
from trainer.study import main as study
from trainer.watch import main as watch

SET = [part for text in SMALL for part in ("--set", text)]


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Run the command in an empty working folder; (exit code, standard output, standard error)."""
    monkeypatch.setenv("TRAINER_OUT", "")  # the command sets it
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(main, [*map(str, arguments), "--devices", "cpu", *SET])
        return result.exit_code, result.stdout, result.stderr

    with quick_results():
        yield run


def test_help_is_quick_and_needs_no_heavy_library():
    """That of every command, in one process in which nobody can import one."""
    code = """if True:
        import importlib, sys
        heavy = ("torch", "torchvision", "timm", "transformers", "matplotlib", "sklearn", "scipy", "av")
        sys.modules |= dict.fromkeys(heavy)
        for name in ("__main__", "evaluate", "predict", "export", "audit", "explain"):
            importlib.import_module(f"trainer.{name}").main(["--help"], standalone_mode=False)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for option in ("--shards", "--config", "--out", "--resume", "--devices", "--set", "--split", "--boxes", "--format"):
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
        "error: runs/fast holds a run already; pass --resume to continue it, or another --out\n",
    )


def test_resume_alone_takes_the_settings_of_the_run(command, shards_folder):
    def resume(*extra):
        result = CliRunner().invoke(
            main, ["--shards", str(shards_folder), "--out", "run", "--devices", "cpu", "--resume", *extra]
        )
        return result.exit_code, result.stderr

    assert command("--shards", shards_folder, "--out", "run", "--set", "max_hours=1e-9")[0] == 75
    code, said = resume("--set", "optimizer.lr=1")
    assert code == 1 and "with other settings (optimizer.lr 0.003 → 1.0); pass the same" in said
    code, said = resume("--set", "epochs=1")
    assert (code, "resuming at epoch 1, step 1\n" in said) == (0, True), "max_hours was one session's"
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"]["backbone"] == "tiny"
    code, said = resume("--config", "run/config.yaml")
    assert (code, said) == (0, "run is complete: nothing left to train\n")


def test_resume_alone_runs_no_class_that_only_the_folder_names(shards_folder, tmp_path):
    (tmp_path / ".trainer.lock").touch()
    (tmp_path / "config.yaml").write_text("model:\n  name: runs:MeanColours\nepochs: 3\n")
    with pytest.raises(SettingsError, match=r"custom model runs:MeanColours; .* add --set model.name=runs:MeanColours"):
        load(tmp_path, None, ("epochs=2",), settings_of(tmp_path, True))
    assert load(tmp_path, None, ("model.name=runs:MeanColours",), settings_of(tmp_path, True)).epochs == 3
    assert load(tmp_path, tmp_path / "config.yaml", (), None).model.name == "runs:MeanColours"


@pytest.mark.parametrize("option", ["--config", "--out"])
def test_an_option_given_twice_is_refused(command, option):
    code, printed, said = command("--shards", "a", option, "b", f"{option}=c")
    assert (code, printed, said) == (2, "", f"Error: {option} is given 2 times; give it once\n")


@pytest.mark.parametrize("found", [main, evaluate, predict, export, audit])
def test_every_command_is_of_the_kind_that_refuses_it(found):
    assert type(found) is Command


@pytest.mark.parametrize(
    ("found", "option"),
    [
        (main, "--out"), (main, "--config"), (evaluate, "--out"), (evaluate, "--csv"), (evaluate, "--run"),
        (predict, "--csv"), (export, "--out"), (explain, "--out"), (encode, "--out"), (generate, "--out"),
        (study, "--out"), (watch, "--run"),
    ],
)  # fmt: skip
def test_what_is_written_here_takes_no_address(found, option, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    required = {"--shards": "x", "--run": "x", "--vae": "x", "--format": "onnx"}
    given = {name: value for name, value in required.items() if any(name in p.opts for p in found.params)}
    given |= {"--out": "x"} if found in (encode, generate) else {}
    pairs = [text for pair in (given | {option: "s3://bucket/x"}).items() for text in pair]
    done = CliRunner().invoke(found, pairs + ["x"] * (found is predict))
    assert (
        done.exit_code == 2
        and "s3://bucket/x: lies in object storage, where" in done.stderr
        and f"{option}' of" in done.stderr
    )
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_in_the_folder_of_a_project_nothing_is_touched(command, shards_folder, tmp_path):
    (tmp_path / "results" / "evaluation").mkdir(parents=True)
    (tmp_path / "results" / "evaluation" / "mine.csv").write_text("a,b")
    for resume in ([], ["--resume"]):
        code, printed, said = command("--shards", shards_folder, "--out", ".", *resume)
        assert (code, printed) == (2, "")
        assert said == "error: . holds results, but no run; pass an empty or a new folder with --out\n"
    assert [str(path) for path in Path().rglob("*") if path.is_file()] == ["results/evaluation/mine.csv"]


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
        (None, ["--set", "max_hours=1e-9"], 75, "--resume continues"),
    ],
)
def test_failures_are_one_line(command, own_shards, damage, extra, code, message):
    if damage:
        damage(own_shards)
    devices = [] if "--devices" in extra else ["--devices", "cpu"]
    result = CliRunner().invoke(main, ["--shards", str(own_shards), "--out", "run", *devices, *SET, *extra])
    assert result.exit_code == code
    assert message in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize("passes", [0, 2])  # of evaluation: none, and that of the only epoch and the report's first
def test_sigterm_before_the_first_step_and_in_the_report_ends_as_a_run_to_resume(
    passes, shards_folder, tmp_path, capfd
):
    arguments = ["--shards", str(shards_folder), "--out", str(tmp_path / "run"), "--devices", "cpu"]
    for text in ("epochs=1", "batch_size=8", "model.name=runs:Ended", f"model.options.at={passes}"):
        arguments += ["--set", text]
    process = multiprocessing.get_context("fork").Process(target=main, args=(arguments,))
    process.start()
    process.join(60)
    said = capfd.readouterr().err.splitlines()
    assert process.exitcode == 75
    assert said[-1] == "error: stopped by SIGTERM; --resume continues from the newest checkpoint, or begins"
    assert any(line.startswith("epoch 1/1: ") for line in said) == bool(passes)
    assert bool(list((tmp_path / "run").glob("checkpoints/*"))) == bool(passes)


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_a_wrong_setting_is_said_once_for_all_processes(monkeypatch, rank, lines):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", rank)
    result = CliRunner().invoke(main, ["--shards", "shards", "--devices", "many"])
    assert (result.exit_code, result.output.count("\n")) == (2, lines)


def test_folders_of_other_things(command, data_folder, tmp_path):
    for folder in ("run/models", "run/results"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    expected = {data_folder: "is no shards folder; make one with", tmp_path / "run": "is the folder of a run, not of"}
    for folder, message in expected.items():
        code, printed, said = command("--shards", folder)
        assert (code, printed, said.count("\n")) == (1, "", 1)
        assert said.startswith(f"error: {folder}: {message}")


def test_no_shards_folder(command, tmp_path):
    code, printed, said = command("--shards", "nowhere")
    assert os.listdir(tmp_path / "runs") == [], "the folder that was taken for the run"
    assert (code, printed, said.count("\n")) == (1, "", 1)
    assert said.startswith("error: nowhere: is not a folder, a tar or a data set mounted here (looked for nowhere, ")


def test_a_killed_launcher_does_not_hide_what_is_wrong(command, monkeypatch, tmp_path):
    monkeypatch.setenv("TRAINER_EXIT_CODE", str(tmp_path / "gone" / "3"))
    code, _, error = command("--shards", tmp_path / "missing")
    assert code == 1 and error.startswith("error: ") and error.count("\n") == 1


def test_of_a_library_s_error_only_what_has_happened():
    said = "[gloo/transport/tcp/pair.cc:5] Connection closed by peer [10.0.0.1]:7. This may be anything. GLHF!\nmore"
    expected = "[gloo/transport/tcp/pair.cc:5] Connection closed by peer [10.0.0.1]:7"
    assert first_sentence(RuntimeError(said)) == expected
    assert first_sentence(RuntimeError()) == "RuntimeError"


def test_no_name_in_an_error_commands_the_terminal(command):
    code, _, said = command("--shards", "a\x1bcb")
    assert code == 1 and "\x1b" not in said and said.startswith(r"error: a\x1bcb: is not a folder")
