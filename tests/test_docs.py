"""Every command, option and setting is documented, and the documented ones exist."""

import re
from pathlib import Path

import click
import pytest

from shardify.cli import main as shardify
from trainer.__main__ import main as trainer
from trainer.audit import main as audit
from trainer.evaluate import main as evaluate
from trainer.export import main as export
from trainer.predict import main as predict
from trainer.settings import Settings, all_keys, load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def options_of(command):
    return [option for p in command.params if isinstance(p, click.Option) for option in p.opts if option[:2] == "--"]


@pytest.mark.parametrize("name", sorted(shardify.commands))
def test_every_shardify_command_is_in_the_readme(name):
    assert f"shardify {name}" in README


@pytest.mark.parametrize("option", [*options_of(shardify.commands["build"]), *options_of(trainer)])
def test_every_option_is_in_the_readme(option):
    assert re.search(rf"`{option}[ `]", README)


@pytest.mark.parametrize("command", [evaluate, predict, export, audit])
def test_every_trainer_command_and_what_it_requires_is_in_the_readme(command):
    name = command.callback.__module__
    (line,) = re.findall(rf"^python -m {re.escape(name)} .*$", README, re.MULTILINE)
    required = [p.opts[0] for p in command.params if isinstance(p, click.Option) and p.required]
    assert all(option in line for option in required)


def test_every_setting_is_documented_and_every_documented_one_exists():
    documented = {
        key
        for line in SETTINGS.splitlines()
        if line.startswith("| `")
        for key in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    assert documented == set(all_keys())


def test_documented_defaults_are_the_defaults():
    rows = re.findall(r"^\| `([\w.]+)` \| `?([^`|]+?)`? \|", SETTINGS, re.MULTILINE)
    assert len(rows) > 40
    for key, text in rows:
        if text != "{}":
            value = "null" if text == "none" else text
            assert load_settings(None, (f"{key}={value}",)) == Settings(), key


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_configs_load_and_say_how_to_run_them(path):
    load_settings(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(f"--config configs/{path.name}" in line for line in header)
    assert any("minutes" in line for line in header) and any("expect" in line for line in header)
