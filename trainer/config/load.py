"""The reader of settings: the command line wins over a YAML file, the file over the defaults."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, Literal

import yaml

from trainer.config.settings import Settings
from trainer.errors import SettingsError

OTHER_WORDS = {
    "pretrained": "model.weights", "learning_rate": "optimizer.lr", "precision": "amp", "image_size": "data.size",
}  # fmt: skip


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


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
        *groups, name = key.strip().split(".")
        _group(values, groups, key.strip())[name] = parsed
    return from_dict(values)


def from_dict(values: dict) -> Settings:
    return _build(Settings, values, "")


def _read_yaml(path: Path) -> dict:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); check the path given to --config") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values or {}, dict):
        raise SettingsError(f"{path}: holds a {type(values).__name__}; it must hold settings as `key: value`")
    return _nest(values or {}, path)


def _nest(values: dict, path: Path) -> dict:
    """Dotted keys as groups, as after --set. Raises SettingsError where a file gives one setting in both forms."""
    dotted = [key for key in values if isinstance(key, str) and "." in key]
    nested = {key: value for key, value in values.items() if key not in dotted}
    for key in sorted(dotted, key=lambda key: key.count(".")):  # model.options before model.options.width
        *groups, name = key.split(".")
        group = _group(nested, groups, f"{path}: {key}")
        if name in group:
            raise SettingsError(f"{path}: {key} is given twice, as one key and in its group; keep one of them")
        group[name] = values[key]
    return nested


def _group(values: dict, keys: list[str], whole: str) -> dict:
    """The group of settings that these keys lead to, made where it is not there."""
    for key in keys:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{whole}: {key} is a value, not a group of settings")
    return values


def _build(group: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise SettingsError(f"{prefix[:-1]} is {values!r}; it is a group of settings: write {prefix}name: value")
    hints = typing.get_type_hints(group)
    unknown = [key for key in values if key not in hints]
    if unknown:
        near = _nearest(prefix, str(unknown[0]))
        hint = f"; did you mean {near}?" if near else f"; known: {', '.join(hints)}"
        raise SettingsError(f"unknown setting {prefix}{unknown[0]}{hint}")
    return group(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def _nearest(prefix: str, name: str) -> str | None:
    """The setting that may be meant: so named elsewhere, so named by other tools, or spelt alike in this group."""
    known = all_keys()
    same = [key for key in known if key.rpartition(".")[2] == name]
    here = [key.removeprefix(prefix) for key in known if key.startswith(prefix)]
    alike = [prefix + key for key in difflib.get_close_matches(name, here, n=1, cutoff=0.5)]
    return next(filter(None, [*same, OTHER_WORDS.get(name), *alike]), None)


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


def flatten(settings: dict, prefix: str = "") -> dict:
    """Nested settings by their dotted names."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key != "options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
