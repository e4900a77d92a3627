"""The reader of settings: the command line wins over a YAML file, the file over the defaults."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from trainer.config.settings import Settings
from trainer.errors import SettingsError

OTHER_WORDS = {  # setting: what other tools call it
    "epochs": "num_epochs max_epochs n_epochs num_train_epochs",
    "steps": "max_steps num_steps train_steps total_steps train_num_steps",
    "seed": "random_seed random_state manual_seed",
    "batch_size": "batch bs train_batch_size per_device_train_batch_size",
    "accumulate": "accumulation_steps gradient_accumulation_steps accumulate_grad_batches grad_accum",
    "ema": "ema_decay use_ema model_ema",
    "early_stopping": "early_stopping_patience early_stop",
    "metric": "monitor metric_for_best_model",
    "amp": "precision mixed_precision fp16 bf16 use_amp",
    "model.backbone": "arch architecture model_name",
    "model.weights": "pretrained checkpoint",
    "model.lstm_hidden": "hidden_size hidden_dim",
    "model.lstm_layers": "num_layers",
    "model.attention_heads": "num_heads",
    "model.dropout": "drop_rate dropout_rate",
    "model.video.encoder": "video_encoder video_feature_dim video_model",
    "model.video.freeze": "freeze_backbone",
    "model.audio.encoder": "audio_encoder audio_feature_dim audio_model input_channels",
    "model.fusion.width": "fusion_hidden_dim fusion_dim",
    "model.fusion.layers": "fusion_num_layers",
    "model.fusion.heads": "fusion_num_heads",
    "model.gradient_checkpointing": "grad_checkpointing activation_checkpointing",
    "optimizer.lr": "learning_rate base_lr init_lr",
    "optimizer.weight_decay": "wd",
    "optimizer.clip_norm": "grad_clip clip_grad clip_grad_norm max_grad_norm gradient_clip_val",
    "loss.smoothing": "label_smoothing",
    "loss.class_weights": "class_weight",
    "scheduler.name": "lr_scheduler lr_scheduler_type",
    "scheduler.warmup_epochs": "warmup",
    "data.workers": "num_workers dataloader_num_workers",
    "data.frames": "num_frames clip_length clip_len sequence_length",
    "data.size": "image_size img_size input_size resolution",
    "data.balanced": "oversample balanced_sampler weighted_sampler",
    "data.val_fraction": "val_split validation_split val_size",
    "augment.flip": "hflip horizontal_flip",
}
MEANT = {word: setting for setting, words in OTHER_WORDS.items() for word in words.split()}


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def load_settings(config: Path | dict | None = None, overrides: tuple[str, ...] = ()) -> Settings:
    """Defaults, then the YAML file, or what it holds, then `key=value` overrides (dotted keys, YAML values)."""
    values: dict[str, Any] = read_yaml(config) if isinstance(config, Path) else config or {}
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


def read_yaml(path: Path) -> dict:
    """The settings that a file holds, in their groups, not checked. Raises SettingsError where it cannot be read."""
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


def _build(group: type | dict[str, type], values: Any, prefix: str) -> Any:
    """A group of settings by its dotted prefix; of several groups by name, the one that the values name."""
    if not isinstance(values, dict):
        raise SettingsError(f"{prefix[:-1]} is {values!r}; it is a group of settings: write {prefix}name: value")
    if isinstance(group, dict):
        group, values = _choose(group, values, prefix)
    hints = _hints(group)
    unknown = [key for key in values if key not in hints]
    if unknown:
        near = _nearest(prefix, str(unknown[0]))
        hint = f"; did you mean {near}?" if near else f"; known: {', '.join(hints)}"
        raise SettingsError(f"unknown setting {prefix}{unknown[0]}{hint}")
    return group(**{key: _convert(value, hints[key], f"{prefix}{key}") for key, value in values.items()})


def _choose(groups: dict[str, type], values: dict, prefix: str) -> tuple[type, dict]:
    """The group that `name` chooses, the first one without it, and the values for it.

    Raises SettingsError for a setting of another group; one with its default is left out: files of 0.2.0 hold them all.
    """
    name = values.get("name", next(iter(groups)))
    if isinstance(name, str) and ":" in name:  # a class of the user's own, which the first group knows
        return next(iter(groups.values())), values
    if name not in [*groups]:
        raise SettingsError(f"{prefix}name is {name!r}; it must be one of {', '.join(groups)}")
    own = dict(values)
    for key in values:
        owners = {other: group for other, group in groups.items() if key in _hints(group)}
        if owners and name not in owners:
            group = next(iter(owners.values()))
            value = _convert(own.pop(key), _hints(group)[key], f"{prefix}{key}")
            if value != getattr(group(), key):
                raise SettingsError(f"{prefix}{key} is {value}, but it belongs to {', '.join(owners)}, not to {name}")
    return groups[name], own


def _nearest(prefix: str, name: str) -> str | None:
    """The setting that may be meant: so named elsewhere or by other tools, or spelt alike, at best in this group."""
    name, known = name.lower().replace("-", "_"), all_keys()
    names = [key.rpartition(".")[2] for key in known]
    words = {word: key for word, key in zip(names, known, strict=True) if names.count(word) == 1} | MEANT
    here = {key.removeprefix(prefix): key for key in known if key.startswith(prefix)}
    for meant, cutoff in ((words, 1.0), (here, 0.5), (words, 0.75)):
        if found := difflib.get_close_matches(name, meant, n=1, cutoff=cutoff):
            return meant[found[0]]
    return None


def _convert(value: Any, kind: Any, name: str, instead: str = "") -> Any:
    """YAML reads 1e-4 as text and 1 as an integer: accept what is meant, refuse the rest by name.

    instead: what the value may be beside one of this kind, in words.
    """
    if group := _group_of(kind):
        return _build(group, value, f"{name}.")
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        kind, allowed = arguments
        number = _convert(value, kind, name, instead)
        allowed(name, number)
        return number
    if origin is Literal:
        text = "none" if value is None and "none" in arguments else value
        if text not in arguments:
            raise SettingsError(f"{name} is {value!r}; it must be one of {', '.join(arguments)}")
        return text
    if origin in (types.UnionType, typing.Union):
        inner, other = arguments  # a type, and what may stand for it: None or a Literal of one word
        word, meant = ("none", None) if other is type(None) else typing.get_args(other) * 2
        return meant if value in (word, meant) else _convert(value, inner, name, f"{word} or ")
    if origin is dict and isinstance(value, dict):
        return {str(key): _convert(each, arguments[1], f"{name}.{key}") for key, each in value.items()}
    if origin is dict:
        raise SettingsError(f"{name} is {value!r}; it must be values by name: write {name}.NAME: value")
    if origin is list and isinstance(value, list):
        return [_convert(each, arguments[0], name) for each in value]
    if origin is list:
        example = "[a, b]" if arguments[0] is str else "[1, 0.5]"
        raise SettingsError(f"{name} is {value!r}; it must be {instead}a list, for example {example}")
    if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)
    if kind is str and value is None:
        return "none"
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise SettingsError(f"{name} is {value!r}; it must be {instead}of type {kind.__name__}")


def _hints(group: type) -> dict[str, Any]:
    return typing.get_type_hints(group, include_extras=True)


def _group_of(kind: Any) -> type | dict[str, type] | None:
    """The group of settings that a type stands for, or several by name; None for the type of one setting."""
    groups = getattr(kind, "__metadata__", (None,))[0]
    return groups if isinstance(groups, dict) else kind if dataclasses.is_dataclass(kind) else None


def all_keys(group: type = Settings, prefix: str = "") -> list[str]:
    """Every setting by its dotted name."""
    keys = []
    for key, kind in _hints(group).items():
        found = _group_of(kind)
        for each in found.values() if isinstance(found, dict) else [found]:
            keys += all_keys(each, f"{prefix}{key}.") if each else [f"{prefix}{key}"]
    return list(dict.fromkeys(keys))


def flatten(settings: dict, prefix: str = "") -> dict:
    """Nested settings by their dotted names."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key != "options":
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
