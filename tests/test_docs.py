"""Every command, option and setting is documented, the documented ones exist, and documented commands run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from media import numbered_picture, numbered_video
from PIL import Image
from runs import quick_results

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.cli.main import main as shardify
from shardify.format.settings import BuildSettings
from trainer.__main__ import main as trainer
from trainer.audit import main as audit
from trainer.check_vae import main as check_vae
from trainer.config.load import all_keys, load_settings
from trainer.config.settings import Settings
from trainer.encode import main as encode
from trainer.evaluate import main as evaluate
from trainer.explain import main as explain
from trainer.export import main as export
from trainer.generate import main as generate
from trainer.predict import main as predict
from trainer.study import main as study
from trainer.watch import main as watch

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
COMMANDS = {f"shardify {name}": command for name, command in shardify.commands.items()} | {
    "python -m trainer": trainer,
    "python -m trainer.evaluate": evaluate,
    "python -m trainer.predict": predict,
    "python -m trainer.export": export,
    "python -m trainer.explain": explain,
    "python -m trainer.audit": audit,
    "python -m trainer.encode": encode,
    "python -m trainer.check_vae": check_vae,
    "python -m trainer.watch": watch,
    "python -m trainer.generate": generate,
    "python -m trainer.study": study,
}
NOT_RUN = {  # beginning of a command → why; of our own ones the options are parsed all the same
    "shardify build data/ shards/ --faces": "the videos here have no faces; tests/shardify/faces",
    "shardify build FaceForensics++/": "a data set of others; tests/shardify/build/test_plan_of_data_sets.py",
    "shardify build Celeb-DF-v2/": "the same",
    "shardify build dfdc/": "the same",
    "shardify preview shards/": "shards of these; tests/shardify/cli/test_main.py",
    "shardify faces data/": "the same; tests/shardify/tools/test_faces.py",
    "python -m trainer --shards s3://": "needs a bucket; tests/trainer/shards/test_shard_cache.py",
    "shardify info s3://": "the same; tests/shardify/tools/test_remote.py",
    "shardify verify s3://": "the same",
    "./scripts/": "the demo takes minutes, and the tests would run themselves",
    "python scripts/campaign": "takes minutes, and the tests would run themselves",
    "PYTHON=": "the same",
    "pip ": "changes the environment; tests/test_notebook.py installs a wheel",
    "python3 -m venv": "the same",
    "git archive": "needs a clone",
    "git clone": "needs the network",
    "hf download": "downloads weights",
    "python -m trainer --shards shards/ --set model.backbone=vit_large": "downloads weights",
    "export PYTHONPATH=/kaggle": "a folder at Kaggle",
    'cp -r "$(find /kaggle': "a folder at Kaggle",
    "eval ": "for an interactive shell",
    "python -m trainer --shards owner/": "a data set at Kaggle; tests/trainer/test_kaggle_folder.py trains from one",
    "shardify kaggle shards/ --id owner/my-clips --title 'My clips' --upload": "sends; tests/shardify/kaggle/test_kaggle.py does",  # noqa: E501
    "shardify kaggle shards/ --id owner/my-clips --title 'My clips' --new-version": "sends; tests/shardify/kaggle/test_kaggle.py does",  # noqa: E501
    "python -m trainer --shards shards/ --devices 2": "needs two GPUs",
    "python -m trainer --shards shards/ --set model.backbone=resnet18": "takes long; tests/trainer/models/test_backbones.py builds it",  # noqa: E501
    "python -m trainer.evaluate --run runs/x --shards ff/shards": "tests/trainer/tools/test_evaluate.py does it",
    "python -m trainer.export --run runs/x": "takes long; tests/trainer/test_export.py does it",
    "python -m trainer --shards shards/ --set model.name=multimodal": "tests/trainer/tasks/multimodal/ does it",
    "python -m trainer.explain": "needs a run on sound; tests/trainer/test_explain.py has one",
    "python scripts/make_demo_gait.py": "takes minutes; tests/scripts/test_make_demo_gait.py",
    "shardify build gait/": "pictures of these",
    "python -m trainer.audit --shards shards/gait": "the same",
    "python -m trainer --shards shards/gait": "the same; tests/trainer/tasks/autoencoder/ does it",
    "python -m trainer.check_vae --vae runs/vae": "the same; tests/trainer/tools/latents/ does it",
    "python -m trainer.encode --shards shards/gait": "the same",
    "python -m trainer --shards latents/gait": "the same; tests/trainer/tasks/diffusion/ does it",
    "python -m trainer.watch --run runs/diffusion": "the same; tests/trainer/tools/synthetic/ does it",
    "python -m trainer.generate --run runs/diffusion": "the same",
    "shardify build synthetic/": "the same",
    "python -m trainer.study": "the same; tests/trainer/tools/study/ does it",
    "energon ": "tests/test_interoperability.py does it",
}
SMALL = (  # where a command says nothing else
    "epochs=1", "batch_size=4", "model.backbone=tiny", "model.weights=none", "model.lstm_hidden=8", "data.frames=2",
    "data.size=32",
)  # fmt: skip


def fences(language):
    """(page, content) of every block of a language."""
    return [(name, match[2]) for name, text in TEXT.items() for match in FENCE.finditer(text) if match[1] == language]


def documented_blocks():
    """(page and first line, commands) of every block of shell commands."""
    blocks = {}
    for name, block in fences("sh"):
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
        commands = [shlex.join(shlex.split(line, comments=True)) if is_ours(line) else line for line in lines if line]
        blocks.setdefault(tuple(commands), f"{name}: {commands[0][:40]}")
    return [pytest.param(commands, id=title) for commands, title in blocks.items()]


def is_ours(line):
    return line.startswith(("shardify ", "python -m trainer"))


def parse(command):
    """The click command that a line calls, and its arguments."""
    words = shlex.split(command)
    count = 2 if words[0] == "shardify" else 3
    return COMMANDS[" ".join(words[:count])], words[count:]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with everything that the documentation takes for granted: videos, shards, a run, files of settings."""
    root = tmp_path_factory.mktemp("place")
    names = [f"real/id{i}_0001.mp4" for i in range(12)]
    names += [f"fake/id{i}_id{i + 1}_0001.mp4" for i in range(0, 12, 2)]
    for i, name in enumerate(names):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        numbered_video(root / "data" / name, 10 + i, size=(64, 64))
    (root / "trainlist01.txt").write_text("\n".join(names[::2]))
    (root / "testlist01.txt").write_text("\n".join(names[1::2]))
    (root / "folder").mkdir()
    for i in range(8):
        picture = root / "pictures" / ("real", "fake")[i % 2] / f"{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbered_picture(i)).save(picture)
    for name in ("video.mp4", "folder/clip.mp4"):
        shutil.copy(root / "data" / names[0], root / name)
    (root / "gait").mkdir()
    (root / "gait" / "pictures.csv").touch()  # the commands on these are only parsed
    manifest, boxes = (block.splitlines()[0] for _, block in fences("csv"))
    rows = [f"{name},{name.split('/')[0]},,{name.split('_')[0][-3:]},{i / 10}" for i, name in enumerate(names)]
    (root / "videos.csv").write_text("\n".join([manifest, *rows]) + "\n")
    (root / "boxes.csv").write_text("\n".join([boxes, *(f"{name},10,5,40,40,0.3" for name in names)]) + "\n")
    for _, block in fences("yaml"):
        (root / re.search(r"^# (\S+\.yaml)$", block, re.MULTILINE)[1]).write_text(block)
    settings = BuildSettings(frames=8, size=64, shard_size=8)
    request = BuildRequest(root / "data", root / "shards", settings, manifest=root / "videos.csv")
    assert build(request).ok_inputs == 18
    shutil.copytree(root / "shards", root / "shards-2")
    shutil.copytree(ROOT / "configs", root / "configs")
    with pytest.MonkeyPatch.context() as here:
        here.chdir(root)
        assert call("python -m trainer --shards shards/ --out runs/x", here).exit_code == 0
    return root


def call(command, monkeypatch):
    """Run one of our commands in this process, where torch is there already; small where it does not say otherwise."""
    monkeypatch.setenv("TRAINER_OUT", "")  # the command sets it
    found, arguments = parse(command)
    if found is trainer:
        arguments = [part for text in SMALL for part in ("--set", text)] + arguments
    with quick_results():
        return CliRunner().invoke(found, arguments)


@pytest.mark.parametrize("commands", documented_blocks())
def test_documented_commands_run(commands, place, tmp_path, monkeypatch):
    """One after the other in a folder of their own, of which nothing is changed but what a build makes anew."""
    here = shutil.copytree(place, tmp_path / "here")
    if any(command.startswith("shardify build") for command in commands):
        shutil.rmtree(here / "shards")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for command in commands:
        if any(command.startswith(start) for start in NOT_RUN):
            check_options(command)
        elif is_ours(command):
            result = call(command, monkeypatch)
            allowed = (0, 1) if command == "shardify doctor" else (0,)  # what it says depends on the machine
            assert result.exit_code in allowed, (command, result.output, result.exception)
        elif command.startswith("python -c "):  # in this process, where torch is there already
            _, option, code, *arguments = shlex.split(command)
            monkeypatch.setattr(sys, "argv", [option, *arguments])
            exec(code, {})
        else:
            done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def check_options(command):
    if is_ours(command):
        found, arguments = parse(command)
        context = found.make_context(command, arguments)
        load_settings(None, context.params.get("overrides", ()))


def test_no_excuse_is_left_over():
    commands = [command for block in documented_blocks() for command in block.values[0]]
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in commands)] == []


def test_documented_python_runs(place, monkeypatch):
    """The blocks of the README, and that of the recipe for a model in Python."""
    monkeypatch.chdir(place)
    names = {}
    for page, block in fences("python"):
        if page == "README.md" or "load_model" in block:
            exec(block, names)
    assert names["clips"].shape[1:] == (8, 3, 64, 64)
    assert names["prediction"].class_name in ("real", "fake")


def options_of(command):
    return {option for p in command.params if isinstance(p, click.Option) for option in p.opts}


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_option_has_a_row_and_every_row_an_option(name):
    parts = re.split(r"^## (.*)\n", TEXT["commands.md"], flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    (section,) = (text for title, text in sections.items() if re.fullmatch(rf"{name}( \[?[A-Z…]+\]?)*", title))
    rows = re.findall(r"^\| (`-[^|]*) \|", section, re.MULTILINE)
    documented = {option for row in rows for option in re.findall(r"`([^`]+)`", row)}
    if name == "shardify plan":
        assert "options of `build` but `--dry-run`, `--plan-only`, `--part` and `--on`" in section
        own = {"--dry-run", "--plan-only", "--part", "--on"}
        assert options_of(COMMANDS[name]) == options_of(COMMANDS["shardify build"]) - own
    else:
        assert documented == options_of(COMMANDS[name])


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_command_is_in_the_readme(name):
    short = name.removeprefix("shardify ")
    assert name in TEXT["README.md"] or re.search(rf"^\| `{short}( [A-Z]+)*` \|", TEXT["README.md"], re.MULTILINE)


def test_the_readme_is_short_and_leads_to_every_page():
    assert len(TEXT["README.md"].splitlines()) <= 200
    assert {path.name for path in PAGES if path.parent.name == "docs"} <= {
        Path(target).name for target, _ in LINK.findall(TEXT["README.md"])
    }


def test_links_lead_somewhere():
    for path in PAGES:
        for target, anchor in LINK.findall(TEXT[path.name]):
            if target.startswith("http"):
                continue
            found = (path.parent / target).resolve() if target else path
            assert found.exists(), f"{path.name}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}, (
                    path.name,
                    anchor,
                )


def test_every_setting_is_documented_and_every_documented_one_exists():
    rows = [line.split("|")[1] for line in TEXT["settings.md"].splitlines() if line.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`([^`]+)`", row)} == set(all_keys())


def test_documented_defaults_are_the_defaults():
    rows = re.findall(r"^\| `([\w.]+)` \| `?([^`|]+?)`? \|", TEXT["settings.md"], re.MULTILINE)
    assert len(rows) > 40
    for key, text in rows:
        if text != "{}":
            value = "null" if text == "none" else text
            assert load_settings(None, (f"{key}={value}",)) == Settings(), key


def test_documented_defaults_of_options_are_the_defaults():
    section = TEXT["commands.md"].split("\n## shardify plan")[0]
    rows = re.findall(r"^\| `--([\w-]+)` \| `?([^`|]+?)`? \|", section, re.MULTILINE)
    defaults = {p.name.replace("_", "-"): p.default for p in COMMANDS["shardify build"].params}
    stated = {name: text for name, text in rows if text != "cores"}
    assert len(stated) > 7
    assert {name: str(defaults[name]) for name in stated} == stated


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_configs_load_and_say_how_to_run_them(path):
    load_settings(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"--config configs/{path.name}" in line for line in header)
    assert any("minutes" in line for line in header) and any("expect" in line for line in header)
    assert not re.search(r"V100|P100|K80|GTX (9|10)\d\d|GTX 7", "".join(header)), "torch's wheels begin with sm_75"
