"""The Kaggle notebook, run cell by cell in a real kernel on a small local folder."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.text import DollarFormatter
from nbclient import NotebookClient
from runs import SMALL
from warm_python import warm_python

ROOT = Path(__file__).parents[1]
PATH = ROOT / "notebooks" / "kaggle.ipynb"
AV = "av-99.0-py3-none-any.whl"  # nothing but its name: a package that is called so and hides no other
NO_AV = "import sys\nsys.modules['av'] = None\n"  # find_spec says None; processes that the kernel starts have it


def notebook(**parameters):
    """The notebook with other values at the end of its first code cell."""
    found = nbformat.read(PATH, as_version=4)
    first = next(cell for cell in found.cells if cell.cell_type == "code")
    for name, value in parameters.items():
        assert f"\n{name} = " in f"\n{first.source}"
        first.source += f"\n{name} = {value!r}"
    return found


def run(found, folder, monkeypatch, **environment):
    """Execute in a kernel in `folder`; stops at the first cell that fails.

    Returns what the cells printed, and their pictures.
    """
    set_environment(monkeypatch, **environment)
    NotebookClient(found, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    return text, [output for output in outputs if "image/png" in output.get("data", {})]


def run_here(found, folder, monkeypatch, **environment):
    """The same in this process, as a kernel's start takes seconds; returns what the commands printed."""
    set_environment(monkeypatch, **environment)
    monkeypatch.chdir(folder)
    names, printed = {}, []

    def system(command):
        filled = DollarFormatter().vformat(command, (), names)
        done = subprocess.run(filled, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        names["_exit_code"] = done.returncode
        printed.append(done.stdout)

    names["get_ipython"] = lambda: SimpleNamespace(system=system)
    for cell in found.cells:
        if cell.cell_type == "code":
            exec(TransformerManager().transform_cell(cell.source), names)
    return "".join(printed)


def set_environment(monkeypatch, **environment):
    for name, value in {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "JUPYTER_PLATFORM_DIRS": "1", **environment}.items():
        monkeypatch.setenv(name, str(value))


def write_wheel(path):
    """A package without a file, as far as pip needs it."""
    info = f"{path.name.removesuffix('-py3-none-any.whl')}.dist-info"
    name, version = path.name.split("-")[:2]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a wheel is made of, or what is unpacked from a zip of the repository; PyAV's wheel lies beside it."""
    folder = tmp_path_factory.mktemp("source") / "shardify-main"
    folder.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("shardify", "trainer"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder.parent / "more" / "wheels").mkdir(parents=True)
    write_wheel(folder.parent / "more" / "wheels" / AV)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    with warm_python(tmp_path_factory.mktemp("warm")) as program:
        yield program


def test_it_is_small_valid_and_stored_without_outputs():
    found = nbformat.read(PATH, as_version=4)
    nbformat.validate(found)
    codes = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)
    assert PATH.stat().st_size < 20_000


def test_ipython_fills_in_every_command_and_its_exit_code_is_looked_at():
    """What its formatter cannot read goes to the shell as it stands, without a word."""
    lines = [line for cell in nbformat.read(PATH, as_version=4).cells for line in cell.source.splitlines()]
    commands = {number: line.strip() for number, line in enumerate(lines) if line.strip().startswith("!")}
    assert len(commands) >= 5
    names = {"python": "python", "wheels": ["w.whl"], "links": "--find-links=x", "settings": "--set epochs=1"}
    names |= {"SHARDS": "a/b", "OUT": "runs/a b", "VIDEOS": [Path("a b.mp4")], "shlex": shlex}
    for number, command in commands.items():
        filled = DollarFormatter().vformat(command, (), names)
        assert filled.startswith("!python ") and not set("{}") & set(filled), command
        assert "assert _exit_code" in lines[number + 1], command
    assert any("'runs/a b'" in DollarFormatter().vformat(command, (), names) for command in commands.values())


def test_every_cell_runs_on_a_local_folder(source, python, shards_folder, data_folder, tmp_path, monkeypatch):
    """PyAV is missing in the kernel, so it is installed, into a folder of its own here."""
    values = {"SHARDS": str(shards_folder), "SOURCE": str(source.parent), "SETTINGS": [*SMALL, "epochs=1"]}
    values["VIDEOS"] = [str(data_folder / "val")]
    found = notebook(**values)
    found.cells[1].source = f"{NO_AV}sys.executable = {python!r}\n{found.cells[1].source}"
    text, pictures = run(found, tmp_path, monkeypatch, PIP_TARGET=tmp_path / "site", PIP_NO_INDEX=1)
    assert str(source / "trainer" / "__init__.py") in text
    assert "Final figures on test, 8 clips" in text
    assert "%|" not in text and "\r" not in text.replace("\r\n", "\n")  # lines, neither bars nor their redrawing
    assert len(pictures) == 4
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["av-99.0.dist-info"]
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 8
    assert "MB  runs/kaggle/models/best_model.safetensors" in text


@pytest.mark.parametrize(("has_av", "message"), [(True, "predicting failed"), (False, "PyAV is needed")])
def test_predicting_stops_at_what_fails(source, python, tmp_path, monkeypatch, has_av, message):
    """The table cannot be written; and before that, perhaps, there is nothing to install PyAV from."""
    (tmp_path / "predictions.csv").mkdir()
    found = notebook(SOURCE=str(source), VIDEOS=["video.mp4"])
    found.cells = [cell for cell in found.cells if "-m trainer --shards" not in cell.source]
    monkeypatch.setattr(sys, "executable", python)
    if not has_av:
        monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AssertionError, match=message):
        run_here(found, tmp_path, monkeypatch, PIP_TARGET=tmp_path / "site", PIP_NO_INDEX=1)


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """In a folder of the folder that is returned, where the notebook looks as well."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist"]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_wheel_is_installed_without_its_dependencies(wheel, tmp_path, monkeypatch):
    """Into a folder of its own here, not into the environment of the tests."""
    site = tmp_path / "site"
    found = notebook(SOURCE=str(wheel))
    found.cells = found.cells[:4]
    text = run_here(found, tmp_path, monkeypatch, PIP_TARGET=site, PYTHONPATH=site, PIP_NO_INDEX=1)
    assert str(site / "trainer" / "__init__.py") in text
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"shardify", "trainer", "bin"}


def test_a_source_that_is_not_attached_is_answered_with_what_is(tmp_path, monkeypatch):
    (tmp_path / "input/datasets/owner/shardify").mkdir(parents=True)
    found = notebook(SOURCE="owner/shardfy")
    found.cells = found.cells[:4]
    found.cells[3].source = found.cells[3].source.replace("/kaggle/input", str(tmp_path / "input"))
    there = tmp_path / "input/datasets/owner/shardify"
    message = rf"^owner/shardfy is not attached; .* Attached are: {re.escape(str(there))}"
    with pytest.raises(AssertionError, match=message):
        run_here(found, tmp_path, monkeypatch, PIP_NO_INDEX=1)


def test_the_page_resumes_with_the_notebooks_own_settings():
    """The run's own, which it takes where neither a file nor a setting is given."""
    values = {}
    exec(next(cell for cell in nbformat.read(PATH, as_version=4).cells if cell.cell_type == "code").source, values)
    page = (ROOT / "docs" / "kaggle.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^python -m trainer .*--resume.*$", page, re.MULTILINE)
    words = shlex.split(line)
    assert words[words.index("--out") + 1] == values["OUT"]
    assert not {"--set", "--config"}.intersection(words)
