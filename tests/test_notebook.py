"""The Kaggle notebook, run cell by cell in a real kernel on a small local folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from runs import SMALL

ROOT = Path(__file__).parents[1]
PATH = ROOT / "notebooks" / "kaggle.ipynb"


def notebook(**parameters):
    """The notebook with other values at the end of its first code cell."""
    found = nbformat.read(PATH, as_version=4)
    first = next(cell for cell in found.cells if cell.cell_type == "code")
    for name, value in parameters.items():
        assert f"\n{name} = " in f"\n{first.source}"
        first.source += f"\n{name} = {value!r}"
    return found


def run(found, folder, monkeypatch, **environment):
    """Execute in `folder`; stops at the first cell that fails. Returns what the cells printed, and their pictures."""
    for name, value in {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "JUPYTER_PLATFORM_DIRS": "1", **environment}.items():
        monkeypatch.setenv(name, str(value))
    NotebookClient(found, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    return text, [output for output in outputs if "image/png" in output.get("data", {})]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a wheel is made of, or what is unpacked from a zip of the repository."""
    folder = tmp_path_factory.mktemp("source") / "shardify-main"
    folder.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("shardify", "trainer"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_it_is_small_valid_and_stored_without_outputs():
    found = nbformat.read(PATH, as_version=4)
    nbformat.validate(found)
    codes = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in codes)
    assert PATH.stat().st_size < 20_000


def test_every_cell_runs_on_a_local_folder(source, shards_folder, data_folder, tmp_path, monkeypatch):
    values = {"SHARDS": str(shards_folder), "SOURCE": str(source.parent), "SETTINGS": [*SMALL, "epochs=1"]}
    values["VIDEOS"] = [str(data_folder / "val")]
    text, pictures = run(notebook(**values), tmp_path, monkeypatch)
    assert str(source / "trainer" / "__init__.py") in text
    assert "Final figures on test, 8 clips" in text
    assert len(pictures) == 4
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 8
    assert "MB  runs/kaggle/models/best_model.safetensors" in text


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_wheel_is_installed_without_its_dependencies(wheel, tmp_path, monkeypatch):
    """Into a folder of its own here, not into the environment of the tests."""
    site = tmp_path / "site"
    found = notebook(SOURCE=str(wheel))
    found.cells = found.cells[:4]
    text, _ = run(found, tmp_path, monkeypatch, PIP_TARGET=site, PYTHONPATH=site, PIP_NO_INDEX=1)
    assert str(site / "trainer" / "__init__.py") in text
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"shardify", "trainer", "bin"}
