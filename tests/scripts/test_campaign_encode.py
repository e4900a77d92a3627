"""Encoding survives kills at any moment; the campaign itself says so."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_killed_encoding_resumes_to_the_same_folder():
    script = Path(__file__).parents[2] / "scripts" / "campaign_encode.py"
    done = subprocess.run([sys.executable, script, "--kills", "20"], capture_output=True, text=True)
    assert done.returncode == 0 and "different" not in done.stdout, done.stdout + done.stderr
