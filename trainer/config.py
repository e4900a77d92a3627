"""YAML files and `--set key=value` → Settings: command line over file over defaults."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from trainer.errors import SettingsError
from trainer.settings import Settings


def load_settings(config: Path | None = None, overrides: tuple[str, ...] = ()) -> Settings:
    """Defaults, then the YAML file, then `key=value` overrides (dotted keys, YAML values)."""
    values: dict[str, Any] = {}
    if config is not None:
        values = _read_yaml(config)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise SettingsError(f"--set {text}: write it as key=value, for example optimizer.lr=1e-4")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {text}: the value is not YAML; quote it, for example 'name=\"[a\"'") from error
        _assign(values, key.strip().split("."), parsed, key.strip())
    return from_dict(values)


def from_dict(values: dict) -> Settings:
    return _build(Settings, values, "")


def _read_yaml(path: Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); check the path given to --config") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values or {}, dict):
        raise SettingsError(f"{path}: holds a {type(values).__name__}; it must hold settings as `key: value`")
    return values or {}


def _assign(values: dict, keys: list[str], value: Any, whole: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{whole}: {key} is a value, not a group of settings")
    values[keys[-1]] = value


def _build(group: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise SettingsError(f"{prefix[:-1]} is {values!r}; it is a group of settings: write {prefix}name: value")
    hints = typing.get_type_hints(group)
    unknown = [key for key in values if key not in hints]
    if unknown:
        known = all_keys()
        near = difflib.get_close_matches(f"{prefix}{unknown[0]}", known, n=1, cutoff=0.5)
        near = near or [key for key in known if key.endswith(f".{unknown[0]}")][:1]
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(hints)}"
        raise SettingsError(f"unknown setting {prefix}{unknown[0]}{hint}")
    return group(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def _convert(value: Any, kind: Any, name: str) -> Any:
    """YAML reads 1e-4 as text and 1 as an integer: accept what is meant, refuse the rest by name."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{name}.")
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        text = "none" if value is None and "none" in choices else value
        if text not in choices:
            raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(choices)}")
        return text
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        inner, other = typing.get_args(kind)  # a type, and what may stand for it: None or a Literal of one word
        word, meant = ("none", None) if other is type(None) else typing.get_args(other) * 2
        if value in (word, meant):
            return meant
        try:
            return _convert(value, inner, name)
        except SettingsError as error:
            raise SettingsError(f"{name} is {value!r}; it must be {word} or of type {inner.__name__}") from error
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if kind is str and value is None:
        return "none"
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SettingsError(f"{name} is {value!r}; it must be of type {kind.__name__}")


def all_keys(group: type = Settings, prefix: str = "") -> list[str]:
    """Every setting by its dotted name."""
    keys = []
    for key, kind in typing.get_type_hints(group).items():
        keys += all_keys(kind, f"{prefix}{key}.") if dataclasses.is_dataclass(kind) else [f"{prefix}{key}"]
    return keys
