"""The environment in which our programs load torch, and that nobody else's is changed."""

import json
import os
import subprocess
import sys

import pytest

from trainer.devices.threads import SPINS

# a stand-in for torch, found before the real one, that says what libgomp would read when it is loaded
TORCH = """import json, os
print(json.dumps({name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}))
raise SystemExit
"""
NONE = dict.fromkeys(("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"))


def read_by_libgomp(folder, *command, **environment):
    (folder / "torch").mkdir(exist_ok=True)
    (folder / "torch" / "__init__.py").write_text(TORCH)
    inherited = {name: value for name, value in os.environ.items() if name not in NONE}
    path = os.pathsep.join((str(folder), *sys.path))
    environment = inherited | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | environment
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "command",
    ["trainer --shards s", "trainer.evaluate --run r --shards s", "trainer.predict --run r v"],
)
def test_our_programs_bound_the_spinning(command, tmp_path):
    assert read_by_libgomp(tmp_path, "-m", *command.split()) == NONE | {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize("chosen", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_has_set_stays(chosen, tmp_path):
    assert read_by_libgomp(tmp_path, "-m", "trainer", "--shards", "s", **chosen) == NONE | chosen


def test_a_number_of_threads_stays_beside_it(tmp_path):
    found = read_by_libgomp(tmp_path, "-m", "trainer", "--shards", "s", OMP_NUM_THREADS="3")
    assert found == NONE | {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": SPINS}


def test_importing_the_loader_changes_nothing(tmp_path):
    assert read_by_libgomp(tmp_path, "-c", "from trainer import ClipLoader") == NONE
