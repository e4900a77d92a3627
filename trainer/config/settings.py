"""The settings of a run as frozen values: each beside its meaning, checked when it is made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal

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


def is_class_path(name: str) -> bool:
    """Whether it has the form package.module:Class."""
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), attribute))


def belong_to(settings: LossSettings | SchedulerSettings, group: str, **owners: str) -> None:
    """Raises SettingsError where a changed one would do nothing, for another `name` than its owner is chosen."""
    for key, owner in owners.items():
        value = getattr(settings, key)
        if value != getattr(type(settings), key) and settings.name != owner:
            raise SettingsError(f"{group}.{key} is {value}, but only {owner} has it, not {settings.name}")


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
    freeze: Literal["none", "backbone"] = "none"  # backbone: only what comes after it is trained
    unfreeze_every: int = 0  # epochs after which one more stage of a frozen backbone joins, the last first; 0: never
    batch_norm: Literal["auto", "train", "frozen"] = "auto"  # statistics; auto freezes those that come with weights
    gradient_checkpointing: bool = False  # compute the backbone twice instead of keeping its activations
    compile: bool = False  # the backbone, by torch.compile

    def __post_init__(self) -> None:
        if self.name != "resnet_lstm" and not is_class_path(self.name):
            raise SettingsError(f"model.name is {self.name!r}; use resnet_lstm or package.module:Class")
        share("model.dropout", self.dropout)
        positive("model.lstm_layers", self.lstm_layers)
        for name in ("lstm_hidden", "attention_heads", "unfreeze_every"):
            not_negative(f"model.{name}", getattr(self, name))
        if self.unfreeze_every and self.freeze == "none":
            raise SettingsError(
                f"model.unfreeze_every is {self.unfreeze_every}, but nothing is frozen; add model.freeze=backbone"
            )
        if self.compile and self.gradient_checkpointing:
            raise SettingsError("model.compile and model.gradient_checkpointing do not work together; use one of them")


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    lr: float = 3e-4
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # largest gradient norm; 0 does not clip
    layer_decay: float = 1.0  # every stage of the backbone learns at so many times the rate of the one after it

    def __post_init__(self) -> None:
        positive("optimizer.lr", self.lr)
        not_negative("optimizer.weight_decay", self.weight_decay)
        not_negative("optimizer.clip_norm", self.clip_norm)
        share("optimizer.layer_decay", self.layer_decay)
        positive("optimizer.layer_decay", self.layer_decay)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    name: str = "cross_entropy"  # it says which task is learned: trainer/tasks/__init__.py
    smoothing: float = 0.0  # label smoothing of cross_entropy
    alpha: float = -1.0  # focal: weight of class 1 (class 0 has 1 - alpha); -1 disables it
    gamma: float = 2.0  # focal: how much easy clips are discounted
    class_weights: bool = False  # weigh classes by the inverse of their frequency

    def __post_init__(self) -> None:
        share("loss.smoothing", self.smoothing)
        not_negative("loss.gamma", self.gamma)
        if self.alpha != -1:
            share("loss.alpha", self.alpha)
        belong_to(self, "loss", smoothing="cross_entropy", alpha="focal", gamma="focal")


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
        belong_to(self, "scheduler", factor="plateau", patience="plateau", warmup_epochs="cosine")


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
    frames: int | None = None  # evenly chosen from those that the shards hold
    size: int | None = None  # pixels; smaller than the shards hold, scaled on the device
    max_per_class: int | None = None  # train on so many clips of each class at most

    def __post_init__(self) -> None:
        share("data.max_errors", self.max_errors)
        not_negative("data.workers", self.workers)
        not_negative("data.shuffle_shards", self.shuffle_shards)
        for name in ("sheet_frames", "frames", "size", "max_per_class"):
            if getattr(self, name) is not None:
                positive(f"data.{name}", getattr(self, name))
        if not 0 < self.val_fraction < 1:
            raise SettingsError(f"data.val_fraction is {self.val_fraction}; it must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    flip: float = 0.5  # share of clips mirrored left to right
    crop: float = 0.9  # smallest side of the random crop, as a share of the frame; 1 does not crop
    brightness: float = 0.1  # largest change of brightness, contrast and saturation, as a share
    contrast: float = 0.1
    saturation: float = 0.1
    frame_dropout: float = 0.0  # share of frames that repeat the one before
    blur: float = 0.0  # largest standard deviation of a Gaussian, pixels
    noise: float = 0.0  # largest standard deviation, as a share of white
    jpeg: int = 0  # lowest quality of JPEG-like compression, drawn from there to 100; 0: none

    def __post_init__(self) -> None:
        for name in ("flip", "crop", "brightness", "contrast", "saturation", "frame_dropout", "noise"):
            share(f"augment.{name}", getattr(self, name))
        positive("augment.crop", self.crop)
        not_negative("augment.blur", self.blur)
        if not 0 <= self.jpeg <= 100:
            raise SettingsError(f"augment.jpeg is {self.jpeg}; it must be a quality, 1 to 100, or 0 for none")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every value that shapes a run; dumped into config.yaml and experiment_results.json.

    Raises SettingsError, which names the key and what it may be.
    """

    epochs: int = 25
    seed: int = 0
    batch_size: int | Literal["auto"] = 16  # clips per step, over all devices; auto: what fits into memory
    accumulate: int = 1  # parts in which a step's clips go through the model: less memory, the same step
    ema: float = 0.0  # decay of the averaged weights that are evaluated and saved, for example 0.999; 0: none
    early_stopping: int | None = None  # end after this many epochs without improvement
    metric: str = "auto"  # of validation, chooses the best epoch; auto: the task's first one
    amp: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    checkpoint_every_steps: int = 0  # beside one at the end of every epoch; 0: only those
    keep_checkpoints: int = 2
    max_hours: float | None = None  # checkpoint and stop before this; Kaggle ends sessions at 12
    tensorboard: bool = False  # events in the run's folder
    profile: bool = False  # a profiler trace of some steps in the run's folder
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "keep_checkpoints", "accumulate"):
            if getattr(self, name) != "auto":
                positive(name, getattr(self, name))
        if not 0 <= self.ema < 1:
            raise SettingsError(f"ema is {self.ema}; it must be 0 for none, or below 1")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed is {self.seed}; it must lie between 0 and 2^32 - 1")
        not_negative("checkpoint_every_steps", self.checkpoint_every_steps)
        if self.max_hours is not None:
            positive("max_hours", self.max_hours)
        if self.early_stopping is not None:
            positive("early_stopping", self.early_stopping)
            least = self.scheduler.patience + 2  # one more to be without improvement, one at the lower rate
            if self.scheduler.name == "plateau" and self.early_stopping < least:
                raise SettingsError(
                    f"early_stopping is {self.early_stopping}, scheduler.patience {self.scheduler.patience}: the run "
                    f"would end before any epoch at a lower learning rate; make early_stopping at least {least}"
                )
        if self.scheduler.name == "cosine" and self.scheduler.warmup_epochs >= self.epochs > 1:
            raise SettingsError(
                f"scheduler.warmup_epochs is {self.scheduler.warmup_epochs}, epochs {self.epochs}: the run would end "
                f"in its warm-up; lower scheduler.warmup_epochs"
            )

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


def is_custom(settings: ModelSettings) -> bool:
    """Whether the model is somebody's own, package.module:Class."""
    return ":" in settings.name
