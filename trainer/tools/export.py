"""Export of a run's best model for other programs: safetensors weights, a torch.export program or ONNX.

The exported model takes uint8 clips (B, T, 3, S, S) as they come out of a shard, and the other members that its task
reads. It gives scores (B, K) and predictions (B,): normalisation, softmax and the run's threshold are inside.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from shardify.format.members import members_from
from shardify.format.records import OPTIONAL
from shardify.storage.local import check_writable, write_atomically
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = {"safetensors": ".safetensors", "torch": ".pt2", "onnx": ".onnx"}
TOLERANCE = 1e-4  # largest difference between the exported model's scores and the run's


def export(run: Path, kind: str, path: Path, model_class: str | None = None) -> float:
    """Write the model and return how far its scores are from the run's, on random clips.

    model_class: of a custom model, package.module:Class. Raises TrainerError.
    """
    import torch

    from trainer.saved_model import load_saved

    saved = load_saved(run, torch.device("cpu"), model_class)
    model = deployable(saved)
    check_writable(path)
    inputs = example_inputs(saved, 3)
    write = {"safetensors": _to_safetensors, "torch": _to_program, "onnx": _to_onnx}[kind]
    exported = write(saved, model, inputs, path)
    difference = 0.0
    for count in (3, 1):  # batches of any size
        batch = [values[:count] for values in inputs.values()]
        with torch.inference_mode():
            expected, _ = model(*batch)
        difference = max(difference, float((exported(*batch) - expected).abs().max()))
    if difference > TOLERANCE * max(1.0, float(expected.abs().max())):  # values in regression may be large
        raise TrainerError(f"{path}: scores differ from the run's by {difference:.1e}; do not use this file")
    return difference


def example_inputs(saved, count: int) -> dict[str, Tensor]:
    """What the exported model takes, by name: random clips, and the other members that the task reads.

    Of a member that clips may lack also NAME_present, bool (count,).
    """
    import torch

    shape = (count, saved.stored_frames, 3, saved.stored_size, saved.stored_size)
    inputs = {"clips": torch.randint(0, 256, shape, dtype=torch.uint8)}
    members = members_from(saved.members)
    for name in saved.task.other_members:
        values = torch.randn(count, *members[name].shape)
        inputs[name] = values.to(getattr(torch, members[name].dtype.name))
        if name in OPTIONAL:
            inputs[f"{name}_present"] = torch.arange(count) != 1
    return inputs


def deployable(saved) -> nn.Module:
    """The model with its preprocessing and threshold: uint8 (B, T, 3, S, S) to scores (B, K) and predictions (B,).

    It takes what `example_inputs` gives, in that order. In regression the scores are the values, (B, 1). T and S are
    those of the shards, whatever the model sees of them.
    """
    import torch
    from torch import nn

    from trainer.transforms.clips import MEAN, STD, to_float

    names = list(example_inputs(saved, 1))[1:]

    class Deployable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = saved.model
            self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
            self.register_buffer("deviation", torch.tensor(STD).view(3, 1, 1))

        def forward(self, clips: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
            clips = (to_float(clips, saved.frames, saved.size) - self.mean) / self.deviation
            outputs = self.model(*saved.task.inputs(clips, dict(zip(names, others, strict=True))))
            return saved.task.scores_and_predictions(outputs, saved.threshold)

    return Deployable().eval()


def _metadata(saved) -> dict[str, str]:
    """What a user of the file needs to know, by name as JSON: `classes` by number, `threshold` of clips, how they are
    made, and so on."""
    others = [f"{name} {values.dtype}".replace("torch.", "") for name, values in example_inputs(saved, 1).items()][1:]
    inputs = ", ".join(["uint8 (B, T, 3, S, S)", *others])
    about = saved.about() | {"input": f"{inputs}; output: scores (B, K), predictions (B,)"}
    return {name: json.dumps(value) for name, value in about.items()}


def _to_safetensors(saved, model: nn.Module, inputs: dict[str, Tensor], path: Path):
    from safetensors.torch import load_file
    from safetensors.torch import save as safetensors_bytes

    from trainer.saved_model import own_copies

    write_atomically(path, safetensors_bytes(own_copies(model.state_dict()), _metadata(saved)))
    model.load_state_dict(load_file(path))
    return lambda *batch: model(*batch)[0].detach()


def _to_program(saved, model: nn.Module, inputs: dict[str, Tensor], path: Path):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.export.export(model, tuple(inputs.values()), dynamic_shapes=_dynamic_shapes(inputs))
        torch.export.save(program, path, extra_files={f"{name}.json": text for name, text in _metadata(saved).items()})
        loaded = torch.export.load(path).module()
    return lambda *batch: loaded(*batch)[0].detach()


def _to_onnx(saved, model: nn.Module, inputs: dict[str, Tensor], path: Path):
    import torch

    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise TrainerError(f"--format onnx needs {error.name}: pip install onnx onnxscript onnxruntime") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            model, tuple(inputs.values()), input_names=list(inputs), output_names=["scores", "predictions"],
            dynamo=True, dynamic_shapes=_dynamic_shapes(inputs), verbose=False,
        )  # fmt: skip
        program.model.metadata_props.update(_metadata(saved))
        program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    known = {each.name for each in session.get_inputs()}  # without what changes no score

    def run(*batch: Tensor) -> Tensor:
        named = zip(inputs, batch, strict=True)
        return torch.from_numpy(
            session.run(["scores"], {name: values.numpy() for name, values in named if name in known})[0]
        )

    return run


def _dynamic_shapes(inputs: dict[str, Tensor]) -> tuple:
    """Batches of any size, as `Deployable.forward` takes them."""
    import torch

    batch = {0: torch.export.Dim("batch", min=1)}
    others = [batch] * (len(inputs) - 1)
    return (batch, tuple(others)) if others else (batch,)
