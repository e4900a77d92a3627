"""Two nodes whose network is cut end in time, each with one line; the campaign itself says so."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_networks_that_cannot_be_made_are_no_failure(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from two_nodes import why_no_networks

    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_no_networks() == "the program ip is not installed (iproute2)"
    (tmp_path / "ip").write_text("#!/bin/sh\necho mount --make-shared failed >&2; exit 1\n")
    (tmp_path / "ip").chmod(0o755)
    assert why_no_networks() == "mount --make-shared failed"


@pytest.mark.slow
def test_a_cut_network_ends_both_nodes(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    from two_nodes import why_no_networks

    if why := why_no_networks():
        pytest.skip(f"takes network namespaces: {why}")
    command = [sys.executable, SCRIPTS / "campaign_nodes.py", "--only", "network cut"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("ok "), done.stdout + done.stderr
