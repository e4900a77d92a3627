"""The run's settings, each group beside its meaning; command line over YAML over these defaults."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from trainer.errors import SettingsError

Backbone = Literal[
    "auto", "tiny", "resnet18", "resnet34", "resnet50", "resnet101",
    "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4", "vit_b_16",
]  # fmt: skip


def positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise SettingsError(f"{name} is {value}; it must be above 0")


def not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise SettingsError(f"{name} is {value}; it must be 0 or more")


def share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SettingsError(f"{name} is {value}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    name: str = "resnet_lstm"  # or anybody's own: package.module:Class, called as Class(num_classes, **options)
    options: dict = field(default_factory=dict)  # keyword arguments of a model of your own
    backbone: Backbone = "auto"
    weights: str = "auto"  # auto | imagenet | none | a .safetensors or .pth file of the backbone
    differences: bool = True  # add |difference| of neighbouring frames' features
    lstm_hidden: int = 256  # per direction; 0 leaves the LSTM out
    lstm_layers: int = 1
    attention_heads: int = 4  # 0 leaves the self-attention out
    dropout: float = 0.3

    def __post_init__(self) -> None:
        share("model.dropout", self.dropout)
        positive("model.lstm_layers", self.lstm_layers)
        for name in ("lstm_hidden", "attention_heads"):
            not_negative(f"model.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    lr: float = 3e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # largest gradient norm; 0 does not clip

    def __post_init__(self) -> None:
        positive("optimizer.lr", self.lr)
        not_negative("optimizer.weight_decay", self.weight_decay)
        not_negative("optimizer.clip_norm", self.clip_norm)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    name: Literal["cross_entropy", "focal", "bce"] = "cross_entropy"
    smoothing: float = 0.0  # label smoothing of cross_entropy
    alpha: float = -1.0  # focal: weight of class 1 (class 0 has 1 - alpha); -1 disables it
    gamma: float = 2.0  # focal: how much easy clips are discounted
    class_weights: bool = False  # weigh classes by the inverse of their frequency

    def __post_init__(self) -> None:
        share("loss.smoothing", self.smoothing)
        not_negative("loss.gamma", self.gamma)
        if self.alpha != -1:
            share("loss.alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    name: Literal["plateau", "cosine", "constant"] = "plateau"
    factor: float = 0.5  # plateau: the learning rate is multiplied by this
    patience: int = 3  # plateau: epochs without improvement before that
    warmup_epochs: float = 1.0  # cosine: linear warm-up

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1:
            raise SettingsError(f"scheduler.factor is {self.factor}; it must lie between 0 and 1")
        not_negative("scheduler.patience", self.patience)
        not_negative("scheduler.warmup_epochs", self.warmup_epochs)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    cache: Literal["auto", "none", "ram", "device"] = "auto"  # where decoded clips stay after the first epoch
    on_error: Literal["stop", "skip"] = "stop"  # skip: a damaged clip is replaced by another and counted
    max_errors: float = 0.01  # skip: the share of damaged clips at which the run stops all the same
    balanced: bool = False  # draw every class equally often in training
    shuffle_shards: int = 0  # mix clips within so many shards at a time, for slow disks; 0: over all clips
    workers: int = 0  # decoding threads; 0: one per core
    sheet_frames: int | None = None  # frames per contact sheet, in tars of other writers that do not say it
    val_fraction: float = 0.1  # held out of train, by whole groups, where the shards have no val

    def __post_init__(self) -> None:
        share("data.max_errors", self.max_errors)
        not_negative("data.workers", self.workers)
        not_negative("data.shuffle_shards", self.shuffle_shards)
        if self.sheet_frames is not None:
            positive("data.sheet_frames", self.sheet_frames)
        if not 0 < self.val_fraction < 1:
            raise SettingsError(f"data.val_fraction is {self.val_fraction}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    flip: float = 0.5  # share of clips mirrored left to right
    crop: float = 0.9  # smallest side of the random crop, as a share of the frame; 1 does not crop
    brightness: float = 0.1  # largest change of brightness, contrast and saturation, as a share
    contrast: float = 0.1
    saturation: float = 0.1

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            share(f"augment.{item.name}", getattr(self, item.name))
        positive("augment.crop", self.crop)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every value that shapes a run; dumped into config.yaml and experiment_results.json.

    Raises SettingsError, which names the key and what it may be.
    """

    epochs: int = 25
    seed: int = 0
    batch_size: int = 16  # clips per step, over all devices
    accumulate: int = 1  # parts in which a step's clips go through the model: less memory, the same step
    ema: float = 0.0  # decay of the averaged weights that are evaluated and saved, for example 0.999; 0: none
    early_stopping: int | None = None  # end after this many epochs without improvement
    metric: Literal["auc_roc", "accuracy", "balanced_accuracy", "f1", "loss"] = "auc_roc"  # of validation
    amp: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    checkpoint_every_steps: int = 0  # beside one at the end of every epoch; 0: only those
    keep_checkpoints: int = 2
    max_hours: float | None = None  # checkpoint and stop before this; Kaggle ends sessions at 12
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep_checkpoints", "accumulate"):
            positive(name, getattr(self, name))
        share("ema", self.ema)
        for name in ("seed", "checkpoint_every_steps"):
            not_negative(name, getattr(self, name))
        if self.max_hours is not None:
            positive("max_hours", self.max_hours)
        if self.early_stopping is not None:
            positive("early_stopping", self.early_stopping)
            if self.scheduler.name == "plateau" and self.early_stopping <= self.scheduler.patience:
                raise SettingsError(
                    f"early_stopping is {self.early_stopping}, scheduler.patience {self.scheduler.patience}: the run "
                    f"would end before the learning rate is ever lowered; make early_stopping the larger"
                )

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


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
    if isinstance(kind, types.UnionType):
        inner = next(arg for arg in typing.get_args(kind) if arg is not type(None))
        return None if value is None else _convert(value, inner, name)
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
