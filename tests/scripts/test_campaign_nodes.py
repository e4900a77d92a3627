"""Two nodes whose network is cut end in time, each with one line; the campaign itself says so."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.mark.slow
def test_a_cut_network_ends_both_nodes(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from two_nodes import why_no_networks

    if why := why_no_networks():
        pytest.skip(f"takes network namespaces: {why}")
    command = [sys.executable, SCRIPTS / "campaign_nodes.py", "--only", "network cut"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("ok "), done.stdout + done.stderr
