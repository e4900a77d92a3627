"""A run's best model as an object that people call: videos, pictures and arrays of frames in, predictions out."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from shardify.format.settings import BuildSettings
from trainer.devices.memory import in_parts
from trainer.engine.evaluate import autocast, choose_dtype
from trainer.errors import SettingsError, TrainerError
from trainer.saved_model import SavedModel, load_saved
from trainer.tasks.predicting import Prediction
from trainer.tools.raw_clips import (
    Clips,
    Input,
    clips_of_frames,
    clips_of_inputs,
    find_inputs,
    frames_alone,
    settings_of,
)
from trainer.transforms.clips import normalise, to_float


def load_model(
    run: str | os.PathLike, device: str = "auto", model_class: str | None = None,
    faces_model: str | os.PathLike | None = None,
) -> TrainedModel:  # fmt: skip
    """The best model of a run, from the run's folder.

    device: `cpu`, `cuda`, or `auto` for the GPU where there is one. model_class: of a run with a custom model, its
    class as package.module:Class, whose code is run. faces_model: the YuNet file, for shards built with one. Raises
    TrainerError where the folder holds no finished run, SettingsError where the device or the class cannot be used.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"device is {device!r}; use auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is 'cuda', but torch finds no GPU here; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    saved = load_saved(Path(run), torch.device(device), model_class)
    return TrainedModel(Path(run), saved, torch.device(device), Path(faces_model) if faces_model else None)


class TrainedModel:
    """A run's best model; `load_model` makes it.

    Every input is cut into clips as those were that the model was trained on, and scored in batches over the inputs.
    Errors are those of `trainer.errors` and `shardify.errors`, one line each; torch.OutOfMemoryError where memory does
    not hold a single clip.
    """

    def __init__(self, run: Path, saved: SavedModel, device: torch.device, faces_model: Path | None = None) -> None:
        self.run, self.saved, self.device, self.faces_model = run, saved, device, faces_model
        self._most_clips = max(1, saved.settings.batch_size // saved.settings.accumulate)  # at once, as in training

    @property
    def classes(self) -> list[str]:
        """The names of the classes, of the primary head, in the order of their numbers; none in regression."""
        return self.saved.classes if self.saved.task.predicts_classes else []

    @property
    def heads(self) -> dict[str, list[str]]:
        """The classes of every head by its name, the primary one first; none in regression."""
        return {head["name"]: head["classes"] for head in self.saved.heads} if self.classes else {}

    @cached_property
    def build(self) -> BuildSettings:
        """The builder's settings that made the clips of training.

        Raises TrainerError where they are not known, or the faces were found by another model.
        """
        return settings_of(self.saved.build, self.run, self.faces_model)

    def predict(
        self,
        source: str | os.PathLike | Sequence[str | os.PathLike] | np.ndarray,
        *,
        boxes: str | os.PathLike | None = None,
        workers: int | None = None,
        timeout_seconds: float = 600.0,
    ) -> Prediction | list[Prediction]:
        """The prediction for one video or picture, or a list of them for several.

        source: the path of a file, for which what cannot be read raises TrainerError with the reason; a folder, or a
        list of files and folders, for a list in which what cannot be read has an `error`; or frames as they come from
        a decoder, uint8 (T, H, W, 3) RGB, for several videos (B, T, H, W, 3) and a list. Frames of any number and size
        are chosen, resized and compressed as in a build, which itself resizes before it converts colours, so a video's
        path may score a little differently; where T, H and W are those of the stored clips they are taken for such a
        clip and stay as they are. For a model of pictures T is 1.

        boxes: a CSV file of crop boxes, for a model that was trained with one. workers: decoding processes; None: one
        per core. timeout_seconds: CPU time that one video may take.
        """
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            found = list(self.predict_each(self.find([path], boxes), workers, timeout_seconds))
            if path.is_dir():
                return found
            if found[0].error:
                raise TrainerError(f"{path}: {found[0].error}")
            return found[0]
        if isinstance(source, list | tuple) and all(isinstance(path, str | os.PathLike) for path in source):
            return list(self.predict_each(self.find(source, boxes), workers, timeout_seconds))
        return self._predict_frames(source)

    def find(self, paths: Iterable[str | os.PathLike], boxes: str | os.PathLike | None = None) -> list[Input]:
        """The inputs for `predict_each`: files, and what folders hold. Raises TrainerError, UsageError."""
        has_boxes = self.build.boxes is not None
        if has_boxes and not boxes:
            raise TrainerError(f"{self.run}: was trained on clips cut to boxes; pass those of these with --boxes")
        if boxes and not has_boxes:
            raise TrainerError(f"{self.run}: was trained on whole pictures, not clips cut to boxes; leave --boxes out")
        return find_inputs([Path(path) for path in paths], Path(boxes) if boxes else None)

    def predict_each(
        self, inputs: Sequence[Input], workers: int | None = None, timeout_seconds: float = 600.0
    ) -> Iterator[Prediction]:
        """A prediction for each input of `find`, in order, while later ones are decoded; some have an `error`."""
        waiting, count = [], 0
        for source, outcome in clips_of_inputs(inputs, self.build, workers, timeout_seconds, self.faces_model):
            waiting.append((source, outcome))
            count += 0 if isinstance(outcome, str) else len(_frames(outcome))
            if count >= self._most_clips:
                yield from self._predict_clips(waiting)
                waiting, count = [], 0
        yield from self._predict_clips(waiting)

    def _predict_frames(self, frames: object) -> Prediction | list[Prediction]:
        try:
            frames = np.asarray(frames)
        except ValueError as error:  # a list of arrays whose shapes differ
            raise TrainerError(f"these frames are no array ({error}); pass videos that differ one by one") from error
        if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] != 3 or not frames.size:
            raise TrainerError(
                f"an array of {frames.dtype} with shape {frames.shape} is given; frames are uint8 (T, H, W, 3), RGB, "
                "or (B, T, H, W, 3) for several videos"
            )
        videos = frames if frames.ndim == 5 else frames[None]
        stored = self.saved.stored_frames, self.saved.stored_size, self.saved.stored_size, 3
        if videos.shape[1:] == stored:
            clips = videos[:, None]
        elif self.build.boxes or self.build.faces:
            raise TrainerError(
                f"{self.run}: was trained on clips cut to {'faces' if self.build.faces else 'boxes'}; pass frames that "
                f"are cut like these, uint8 {stored}, or the video's path"
            )
        else:
            clips = [clips_of_frames(video, self.build) for video in videos]
        others = bool(self.saved.task.other_members)
        whole = [frames_alone(of_video, self.build) if others else {"frames": of_video} for of_video in clips]
        found = list(self._predict_clips([("", of_video) for of_video in whole]))
        return found if frames.ndim == 5 else found[0]

    def _predict_clips(self, videos: Sequence[tuple[str, Clips | str]]) -> Iterator[Prediction]:
        """Of each source with its clips, or with the reason why there are none."""
        clips = [outcome for _, outcome in videos if not isinstance(outcome, str)]
        if clips:
            outputs = self._outputs({name: np.concatenate([each[name] for each in clips]) for name in clips[0]})
            of_videos = iter(np.split(outputs, np.cumsum([len(_frames(of_video)) for of_video in clips])[:-1]))
        for source, outcome in videos:
            if isinstance(outcome, str):
                yield Prediction(source=source, error=outcome)
            else:
                found = self.saved.task.verdict(next(of_videos), self.saved.classes, self.saved.video_threshold)
                yield dataclasses.replace(found, source=source)

    def _outputs(self, clips: Clips) -> np.ndarray:
        """The outputs, float32 (N, K), of N clips; in smaller parts where memory runs out."""
        stored = torch.from_numpy(_frames(clips)).permute(0, 1, 4, 2, 3)
        others = {name: torch.from_numpy(values) for name, values in list(clips.items())[1:]}
        fewest = math.ceil(len(stored) / self._most_clips)

        saved, device = self.saved, self.device

        def outputs_of(chosen: Tensor) -> Tensor:
            piece = normalise(to_float(stored[chosen].to(device), saved.frames, saved.size))
            members = {name: values[chosen].to(device) for name, values in others.items()}
            return saved.model(*saved.task.inputs(piece, members)).float()

        def run(parts: int) -> np.ndarray:
            with torch.inference_mode(), autocast(device, choose_dtype(saved.settings.amp, device)):
                outputs = torch.cat([outputs_of(chosen) for chosen in torch.arange(len(stored)).chunk(parts)])
            if parts > fewest:  # so that the next batch need not find it out again
                self._most_clips = math.ceil(len(stored) / parts)
            return outputs.cpu().numpy()

        return in_parts(run, fewest, most=len(stored))


def _frames(clips: Clips) -> np.ndarray:
    return next(iter(clips.values()))
