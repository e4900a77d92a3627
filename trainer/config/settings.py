"""The settings of a run as frozen values: each beside its meaning and what it may be."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, get_args

from shardify.storage.address import REMOTE
from trainer.errors import SettingsError


class Allowed(NamedTuple):
    """The numbers that a setting may be: in words, after "it must", and as a function of one."""

    words: str
    holds: Callable[[float], bool]

    def __call__(self, name: str, value: float) -> None:
        """Raises SettingsError, which names the setting, where it may not have this value."""
        if not self.holds(value):
            raise SettingsError(f"{name} is {value}; it must {self.words}")


positive = Allowed("be above 0", lambda value: 0 < value < math.inf)
not_negative = Allowed("be 0 or more", lambda value: 0 <= value < math.inf)
share = Allowed("lie between 0 and 1", lambda value: 0 <= value <= 1)
Positive = Annotated[float, positive]
PositiveInt = Annotated[int, positive]
NotNegative = Annotated[float, not_negative]
NotNegativeInt = Annotated[int, not_negative]
Share = Annotated[float, share]
PositiveShare = Annotated[float, Allowed("be above 0, and at most 1", lambda value: 0 < value <= 1)]
InnerShare = Annotated[float, Allowed("be above 0 and below 1", lambda value: 0 < value < 1)]
Decay = Annotated[float, Allowed("be 0 for none, or below 1", lambda value: 0 <= value < 1)]
Seed = Annotated[int, Allowed("lie between 0 and 2^32 - 1", lambda value: 0 <= value < 2**32)]
Quality = Annotated[int, Allowed("be a quality, 1 to 100, or 0 for none", lambda value: 0 <= value <= 100)]
Degrees = Annotated[float, Allowed("lie between 0 and 180 degrees", lambda value: 0 <= value <= 180)]
Times = Annotated[float, Allowed("be above 1, or 1 for none", lambda value: 1 <= value < math.inf)]
CLASS_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")  # package.module:Class


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    name: str = "resnet_lstm"  # or a custom model: package.module:Class, called as Class(num_classes, **options)
    options: dict = field(default_factory=dict)  # keyword arguments of a custom model
    backbone: str = "auto"  # auto | tiny | a model of timm by its name
    weights: str = "auto"  # auto | pretrained | none | a .safetensors or .pth file, or a folder with one
    drop_path: Decay = 0.0  # rate of stochastic depth at the backbone's last block
    differences: bool = True  # add |difference| of neighbouring frames' features
    temporal: Literal["lstm", "transformer"] = "lstm"  # transformer: in place of LSTM and self-attention
    lstm_hidden: NotNegativeInt = 256  # per direction; 0 leaves the LSTM out; a transformer has twice as many channels
    lstm_layers: PositiveInt = 1  # of the LSTM, or of the transformer
    attention_heads: NotNegativeInt = 4  # 0 leaves the self-attention out
    pool: Literal["mean", "attention", "max"] = "mean"  # over frames, before the head
    head: Literal["linear", "cosine"] = "linear"
    dropout: Share = 0.3
    freeze: Literal["none", "backbone", "all_but_norms"] = "none"  # backbone: only what comes after it is trained
    unfreeze_every: NotNegativeInt = 0  # epochs until one more stage of a frozen backbone joins, last first; 0: never
    batch_norm: Literal["auto", "train", "frozen"] = "auto"  # statistics; auto freezes those that come with weights
    gradient_checkpointing: bool = False  # compute the backbone twice instead of keeping its activations
    compile: bool = False  # the backbone, by torch.compile

    def __post_init__(self) -> None:
        if self.name != "resnet_lstm" and not CLASS_PATH.fullmatch(self.name):
            raise SettingsError(f"model.name is {self.name!r}; use resnet_lstm or package.module:Class")
        if self.unfreeze_every and self.freeze != "backbone":
            raise SettingsError(
                f"model.unfreeze_every is {self.unfreeze_every}, which needs model.freeze=backbone, not {self.freeze}"
            )
        if self.temporal == "transformer" and not (self.lstm_hidden and self.attention_heads):
            raise SettingsError(
                "model.temporal is transformer, which needs model.lstm_hidden and model.attention_heads above 0"
            )
        if self.compile and self.gradient_checkpointing:
            raise SettingsError("model.compile and model.gradient_checkpointing do not work together; use one of them")

    @property
    def described(self) -> str:
        """The model in words."""
        return self.name if is_custom(self) else f"{self.name} on {self.backbone}"

    def for_saved_weights(self) -> ModelSettings:
        """The same model, whose weights will come from a run's file."""
        return dataclasses.replace(self, weights="none")


MODELS: dict[str, type] = {"resnet_lstm": ModelSettings}  # by name, the default first; tasks may bring their own


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    lr: Positive = 3e-4
    weight_decay: NotNegative = 1e-2
    clip_norm: NotNegative = 1.0  # largest gradient norm; 0 does not clip
    sam_rho: NotNegative = 0.0  # radius of sharpness-aware minimization, for example 0.05: twice the time; 0: none
    layer_decay: PositiveShare = 1.0  # every stage of the backbone learns at so many times the rate of the one after it


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The settings of a loss; each has a class of its own, in the folder of its task."""

    name: str


LOSSES: dict[str, type[LossSettings]] = {}  # by name, the default first; trainer/tasks/__init__.py fills it


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    name: str = "plateau"
    factor: InnerShare = 0.5  # the learning rate is multiplied by this
    patience: NotNegativeInt = 3  # epochs without improvement before that


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    name: str = "cosine"
    warmup_epochs: NotNegative = 1.0  # linear warm-up


@dataclass(frozen=True, kw_only=True)
class ConstantSettings:
    name: str = "constant"
    warmup_steps: NotNegativeInt = 0  # linear warm-up


SchedulerSettings = PlateauSettings | CosineSettings | ConstantSettings
SCHEDULERS = {kind.name: kind for kind in get_args(SchedulerSettings)}  # by name, the default first


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    cache: Literal["auto", "none", "ram", "device"] = "auto"  # where decoded clips stay after the first epoch
    on_error: Literal["stop", "skip"] = "stop"  # skip: a damaged clip is replaced by another and counted
    max_errors: Share = 0.01  # skip: the share of damaged clips at which the run stops all the same
    balanced: bool = False  # draw every class equally often in training
    pairs: bool = False  # draw each fake beside the original that it was made from
    extra: list[str] | None = None  # shards folders whose train clips join training, never val or test
    weights: list[NotNegative] | None = None  # how much of each --shards an epoch takes, [1, 1]: equally many clips
    shuffle_shards: NotNegativeInt = 0  # mix clips within so many shards at a time, for slow disks; 0: over all clips
    workers: NotNegativeInt = 0  # decoding threads; 0: one per core
    sheet_frames: PositiveInt | None = None  # frames per contact sheet, in tars of other writers that do not say it
    val_fraction: InnerShare = 0.1  # held out of train, by whole groups, where the shards have no val
    frames: PositiveInt | None = None  # evenly chosen from those that the shards hold
    size: PositiveInt | None = None  # pixels; smaller than the shards hold, scaled on the device
    max_per_class: PositiveInt | None = None  # train on so many clips of each class at most
    cache_dir: str = "auto"  # where copies of shards in object storage lie; auto: ~/.cache/shardify
    cache_gb: NotNegative | Literal["auto"] = "auto"  # what they may take; auto: 80% of the free disk; 0: no copies

    def __post_init__(self) -> None:
        if REMOTE.fullmatch(self.cache_dir):
            raise SettingsError(f"data.cache_dir is {self.cache_dir}; it must be a folder of this machine")


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """The largest strength of each change, of which a clip gets a drawn part; NAME_p: the share of clips it hits."""

    flip: Share = 0.5  # share of clips mirrored left to right
    crop: PositiveShare = 0.9  # smallest side of the random crop, as a share of the frame; 1 does not crop
    crop_p: Share = 1.0
    rotate: Degrees = 0.0  # largest rotation, to either side
    rotate_p: Share = 1.0
    shift: Share = 0.0  # largest shift along each side, as a share of the frame
    shift_p: Share = 1.0
    brightness: Share = 0.1  # largest change of brightness, contrast and saturation, as a share
    contrast: Share = 0.1
    saturation: Share = 0.1
    colour_p: Share = 1.0  # of these three
    grey: Share = 0.0  # share of clips without colour
    frame_dropout: Share = 0.0  # share of frames that repeat the one before
    downscale: Times = 1.0  # so many times smaller at most, and as large as before again; 1: none
    downscale_p: Share = 1.0
    blur: NotNegative = 0.0  # largest standard deviation of a Gaussian, pixels
    blur_p: Share = 1.0
    noise: Share = 0.0  # largest standard deviation, as a share of white
    noise_p: Share = 1.0
    jpeg: Quality = 0  # lowest quality of JPEG-like compression, drawn from there to 100; 0: none
    jpeg_p: Share = 1.0
    cutout: Share = 0.0  # largest side of a black square, as a share of the frame
    cutout_p: Share = 1.0
    self_blend: Share = 0.0  # share of real clips that become pseudo-fakes
    frequency_mask: Share = 0.0  # of spectrograms: largest share of the bands that are masked
    time_mask: Share = 0.0  # largest share of the columns
    gain: NotNegative = 0.0  # largest change of loudness, dB


# no change at all
NO_AUGMENTATION = AugmentSettings(flip=0.0, crop=1.0, brightness=0.0, contrast=0.0, saturation=0.0)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every value that shapes a run; dumped into config.yaml and experiment_results.json.

    `trainer.config.load` makes them and checks each value; what does not go together raises SettingsError here.
    """

    epochs: PositiveInt = 25
    steps: PositiveInt | None = None  # in place of epochs; then checkpoint_every_steps says when validation comes
    seed: Seed = 0
    batch_size: PositiveInt | Literal["auto"] = 16  # clips per step, over all devices; auto: what fits into memory
    accumulate: PositiveInt = 1  # parts in which a step's clips go through the model: less memory, the same step
    ema: Decay = 0.0  # of the averaged weights that are evaluated and saved, for example 0.999; 0: none
    early_stopping: PositiveInt | None = None  # end after this many epochs without improvement
    metric: str = "auto"  # of validation, chooses the best epoch; auto: the task's first one
    calibrate: bool = False  # divide logits by the temperature that suits validation best, wherever scores come from
    amp: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    # beside one at the end of every epoch; 0: only those; with `steps`, each comes with validation
    checkpoint_every_steps: NotNegativeInt = 0
    keep_checkpoints: PositiveInt = 2
    max_hours: Positive | None = None  # checkpoint and stop before this; Kaggle ends sessions at 12
    tensorboard: bool = False  # events in the run's folder
    profile: bool = False  # a profiler trace of some steps in the run's folder
    model: Annotated[ModelSettings, MODELS] = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: Annotated[LossSettings, LOSSES] = field(default_factory=lambda: next(iter(LOSSES.values()))())
    scheduler: Annotated[SchedulerSettings, SCHEDULERS] = field(default_factory=PlateauSettings)
    data: DataSettings = field(default_factory=DataSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if self.early_stopping is not None and isinstance(self.scheduler, PlateauSettings):
            least = self.scheduler.patience + 2  # one more to be without improvement, one at the lower rate
            if self.early_stopping < least:
                raise SettingsError(
                    f"early_stopping is {self.early_stopping}, scheduler.patience {self.scheduler.patience}: the run "
                    f"would end before any epoch at a lower learning rate; make early_stopping at least {least}"
                )
        if self.steps and (not self.checkpoint_every_steps or self.steps % self.checkpoint_every_steps):
            raise SettingsError(
                f"steps is {self.steps}, checkpoint_every_steps {self.checkpoint_every_steps}: with steps, it is the "
                f"number of steps from one validation to the next, and must divide steps"
            )
        if isinstance(self.scheduler, CosineSettings) and self.scheduler.warmup_epochs >= self.rounds > 1:
            raise SettingsError(
                f"scheduler.warmup_epochs is {self.scheduler.warmup_epochs}, epochs or intervals {self.rounds}: the "
                f"run would end in its warm-up; lower scheduler.warmup_epochs"
            )

    @property
    def interval(self) -> int | None:
        """Steps from one validation to the next where the run counts in steps; None where it counts in epochs.

        Such an interval takes the place of an epoch in all that the trainer does.
        """
        return self.checkpoint_every_steps if self.steps else None

    @property
    def rounds(self) -> int:
        """The epochs of the whole run, or its intervals."""
        return self.steps // self.interval if self.interval else self.epochs

    def place(self, epoch: int, step: int | None = None) -> str:
        """A place of the run in words; epoch: from 0, or the interval; step: of it, from 1; None: its end."""
        if self.interval:
            return f"step {epoch * self.interval + (self.interval if step is None else step)}"
        return f"epoch {epoch + 1}" if step is None else f"epoch {epoch + 1}, step {step}"

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)


def is_custom(settings: ModelSettings) -> bool:
    """Whether the model is a custom one, package.module:Class."""
    return ":" in settings.name
