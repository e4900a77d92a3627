"""Where Kaggle's client finds credentials (kaggle 2.2: kagglesdk/kaggle_env.py, kaggle_http_client.py)."""

from __future__ import annotations

import os
from pathlib import Path

WAYS = """\
Ways to give credentials for Kaggle (https://www.kaggle.com/settings/api makes them):
  1. a token: export KAGGLE_API_TOKEN=…, or the token alone in the file ~/.kaggle/access_token
  2. the older key: export KAGGLE_USERNAME=… and KAGGLE_KEY=…
  3. the older key as a file: kaggle.json in ~/.kaggle/ (chmod 600)
  or sign in by a browser: kaggle auth login"""


def find_credentials() -> str | None:
    """Where the client will find credentials, never what they are; None where there are none."""
    home = Path.home() / ".kaggle"
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    for path in (home / "access_token", home / "access_token.txt"):
        if path.is_file():
            return str(path)
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    folders = [Path(os.environ["KAGGLE_CONFIG_DIR"])] if os.environ.get("KAGGLE_CONFIG_DIR") else [home, config]
    files = [folder / "kaggle.json" for folder in folders] + [home / "credentials.json"]
    return next((str(path) for path in files if path.is_file()), None)
