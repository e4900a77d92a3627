"""Some fifty lines whose mistakes would hurt users in silence, changed one at a time: does the suite notice?

    python scripts/campaign_mutants.py [--jobs 2] [--only TEXT]

Each change is made in a scratch copy of the repository, where the tests that the table names must then fail. Without
it they must pass, which is looked at first. A line that is no longer found is named before anything runs: mend its row.
Exit code 1 if a change survives or cannot be made.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 600  # of one run of pytest
PRELOADED = ("torch", "torchvision.models", "sklearn.metrics", "matplotlib.pyplot", "pytest")
copy: Path  # of the repository, of this process alone
# A file and the tests that guard it, in the folder that mirrors its package; then text that stands there once, and
# what it becomes.
TABLE = """
shardify/video/sampling.py video/test_sampling.py
  - return _cut([(2 * k + 1) * num_frames // (2 * parts) for k in range(parts)], frames)
  + return _cut([k * num_frames // parts for k in range(parts)], frames)
  - end = times[-1] + (last_duration if last_duration > 0 else median_duration(times))
  + end = times[-1] + median_duration(times)
shardify/video/piece.py video/test_piece.py
  - key=lambda time: round((time - first) * tick)
  + key=lambda time: round(time * tick)
shardify/video/timeline.py video/test_timeline.py
  - while entry > 0 and packets[entries[entry]].pts > packet.pts:
  + while entry > 1 and packets[entries[entry]].pts > packet.pts:
shardify/video/keyframes.py video/test_keyframes.py
  - return kind == H264_IDR or recovers
  + return True
shardify/video/extract.py video/test_extract.py video/test_decode.py
  - if decoder.errors or frame.pts is None or frame.pts <= shown_until:
  + if decoder.errors or frame.pts is None:
  - self.errors += damaged or any(self._means_damage(text) for _, _, text in self.logs[logged:])
  + self.errors += damaged
shardify/video/resize.py video/test_resize.py
  - ("bt709" if frame.width >= 1280 or frame.height > 576 else "bt601")
  + ("bt709" if frame.width > 1280 or frame.height > 720 else "bt601")
  - picture = np.rot90(picture, -geometry.rotation_degrees // 90)
  + picture = np.rot90(picture, geometry.rotation_degrees // 90)
shardify/video/container.py video/test_container.py
  - "protocol_whitelist": "none",
  + "protocol_whitelist": "file,http",
shardify/audio/waveform.py audio/test_waveform.py audio/test_clip_sound.py
  - own = expected if frame.pts is None else frame.time
  + own = expected
  - frames.append(self._silence())
  + frames.extend([])
shardify/audio/log_mel.py audio/test_log_mel.py
  - squares = np.square(parts, out=parts).mean(axis=1)
  + squares = np.square(parts.mean(axis=1))
shardify/build/encode.py build/test_sound.py
  - sounds = clip_sounds(beside, parts, member, video.start_seconds + job.sound.offset)
  + sounds = clip_sounds(beside, parts, member, job.sound.offset)
shardify/format/members/frames.py format/members/test_frames.py
  - quality=self.quality, subsampling=0)
  + quality=self.quality, subsampling=2)
shardify/format/schema.py format/test_schema.py
  - leads_out = row["source"].startswith("/") or "/../" in f"/{row['source']}/"
  + leads_out = row["source"].startswith("/")
shardify/format/shard.py format/test_shard.py
  - return entry if entry and (not entry["samples"] or file_sha256(folder / name) == entry["sha256"]) else None
  + return entry if entry and (not entry["samples"] or (folder / name).is_file()) else None
shardify/storage/table.py storage/test_table.py
  - return f"'{value}" if is_formula else value
  + return value
shardify/sources/splits.py sources/test_splits.py
  - f"{seed}:{group}"
  + f"{group}"
shardify/sources/groups.py sources/test_groups.py
  - self._parent[other] = root
  + self._parent[root] = root
shardify/sources/layouts/names.py sources/test_groups.py
  - [one for one in match.groups() if one]
  + [one for one in match.groups()[:1] if one]
shardify/sources/catalog.py sources/test_catalog.py
  - {name: meaning == "fake" for
  + {name: meaning == "real" for
shardify/sources/boxes.py sources/test_boxes.py
  - width * (1 + 2 * margin), height * (1 + 2 * margin))
  + width * (1 + margin), height * (1 + margin))
shardify/sources/placement.py build/test_plan.py
  - sets.join(of[name], packed[name]["split"])
  + sets.join(of[name], None)
shardify/sources/fingerprint.py build/test_encode.py
  - sorted({0, max(0, size // 2 - MIB // 2), max(0, size - MIB)})
  + sorted({0, max(0, size - MIB)})
shardify/executors/local.py executors/test_local.py::test_poison_costs_one_video
  - _limit(resource.RLIMIT_AS, _mapped_bytes() + limits.memory_bytes)
  + _limit(resource.RLIMIT_AS, 1 << 46)
trainer/data/order.py data/test_order.py
  - order = rng.permutation(len(numbers))
  + order = np.random.default_rng([seed, 0]).permutation(len(numbers))
  - return batch[places % len(batch)], places < len(batch)
  + return batch[places % len(batch)], places >= 0
trainer/shards/pairs.py shards/test_pairs.py
  - found.append(own[place % len(own)])
  + found.append(own[0])
trainer/engine/sam.py engine/test_sam.py
  - kept = [*moved, *model.buffers()]
  + kept = moved
trainer/shards/shard_set.py shards/test_shard_set.py
  - any(crc32(payload) != crc for payload, crc in zip(payloads, crcs, strict=True)):
  + any(crc32(payload) < 0 for payload, crc in zip(payloads, crcs, strict=True)):
  - if file_sha256(folder / "samples.npy") != fingerprint:
  + if len(file_sha256(folder / "samples.npy")) != len(fingerprint):
trainer/shards/splits.py shards/test_shard_set.py
  - splits = islice(splitter.split(train, labels, groups), share.numerator)
  + splits = islice(splitter.split(train, labels, train), share.numerator)
trainer/shards/mix.py shards/test_mix.py
  - shift = {field: int(ends[field]) + 1 for
  + shift = {field: int(ends[field]) for
  - return connected_components(links, directed=False)[1][groups]
  + return groups
trainer/data/loader.py data/test_decoder.py data/test_loader_elsewhere.py
  - mask[decoded[i]] = False
  + mask[decoded[i]] = True
  - self.epoch, self._first_step = self._position = state["epoch"], state["step"]
  + self.epoch, self._first_step = self._position = state["epoch"], 0
trainer/data/loader.py data/test_loader.py::test_for_any_training_loop
  - labels = torch.from_numpy(self.shards.labels[batch.numbers].astype(np.int64))
  + labels = torch.from_numpy(self.shards.labels[np.sort(batch.numbers)].astype(np.int64))
trainer/data/transfer.py data/test_loader.py
  - return torch.from_numpy(values.numpy().copy(order="C"))
  + return values
trainer/transforms/clips.py transforms/test_augment.py
  - constant(tuple((2 * i + 1) * stored // (2 * frames) for i in range(frames)), clips.device)
  + constant(tuple(i * stored // frames for i in range(frames)), clips.device)
trainer/transforms/augment.py transforms/test_augment.py
  - np.random.default_rng([seed, epoch, *np.atleast_1d(own)])
  + np.random.default_rng([seed, *np.atleast_1d(own)])
trainer/evaluation/metrics.py evaluation/test_metrics.py
  - thresholds[np.argmax(hits - false_alarms)]
  + thresholds[np.argmax(hits)]
trainer/evaluation/metrics.py evaluation/test_weighted.py
  - place = np.unique(groups, return_inverse=True)[1]
  + place = np.arange(len(groups))
trainer/evaluation/weighted.py evaluation/test_weighted.py
  - return left - low / (high - low) * (right - left)
  + return np.where(-low < high, left, right)
trainer/evaluation/metrics.py test_predict_as_built.py::test_means_by_video
  - return labels[first], sums / counts[:, None]
  + return labels[first], sums
trainer/evaluation/worst_clips.py evaluation/test_worst_clips.py
  - source = html.escape(rows.get(number, {}).get("source", ""))
  + source = rows.get(number, {}).get("source", "")
trainer/tasks/classification/task.py tasks/classification/test_calibration.py
  - return softmax(outputs / self.temperature if self.calibrate else outputs)
  + return softmax(outputs)
trainer/tasks/classification/losses.py tasks/classification/test_losses.py
  - weights = class_counts.sum() / (len(class_counts) * class_counts.clip(1))
  + weights = class_counts / class_counts.sum()
trainer/models/gradient_checkpointing.py models/test_gradient_checkpointing.py
  - norm._buffers.update(buffers)
  + norm._buffers.update(norm._buffers)
trainer/torch_files.py test_saved_model.py::test_nothing_is_unpickled_but_tensors_and_plain_values
  - weights_only=True
  + weights_only=False
trainer/engine/ema.py engine/test_ema.py
  - torch._foreach_lerp_(averages, values, 1 - decay)
  + torch._foreach_lerp_(averages, values, decay)
trainer/saved_model.py test_train.py::test_averaged_weights_are_the_best_model
  - weights = own_copies(run.engine.evaluated.state_dict())
  + weights = own_copies(run.model.state_dict())
trainer/engine/nonfinite.py engine/test_nonfinite.py
  - self._optimizer.found_inf = (~is_sound).float()
  + self._optimizer.found_inf = torch.zeros_like(norm)
trainer/engine/checkpoint.py engine/test_checkpoint.py
  - key=lambda path: (step_of(path), path.stat().st_mtime_ns), reverse=True)
  + key=lambda path: (step_of(path), path.stat().st_mtime_ns))
trainer/engine/engine.py engine/test_engine.py
  - self.group.broadcast(model.buffers())
  + self.group.broadcast(())
trainer/data/order.py data/test_order.py
  - return whole[first - passes[0] * length :][:clips]
  + return whole[:clips]
trainer/tasks/diffusion/task.py tasks/diffusion/test_diffusion.py
  - np.random.default_rng([OF_TRAINING, self.settings.seed, epoch, *own])
  + np.random.default_rng([OF_TRAINING, self.settings.seed, *own])
trainer/tasks/diffusion/losses.py tasks/diffusion/test_losses.py
  - (ratio + (settings.predict == "v"))
  + ratio
trainer/devices/distributed.py engine/test_engine.py
  - return np.concatenate(self.gather_objects(values)) if self.world > 1 else values
  + return self.gather_objects(values)[0]
"""


class Mutant(NamedTuple):
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.new}"


def read_table() -> list[Mutant]:
    mutants, file, tests, old = [], "", (), ""
    for line in TABLE.strip().splitlines():
        mark, _, text = line.strip().partition(" ")
        if mark == "-":
            old = text
        elif mark == "+":
            mutants.append(Mutant(file, old, text, tests))
        else:
            file, package = mark, mark.partition("/")[0]
            tests = tuple(f"tests/{package}/{name}" for name in text.split())
    return mutants


def what_is_missing(mutant: Mutant) -> str | None:
    """Why a change cannot be made, or its tests cannot be run."""
    for path in (mutant.file, *(test.partition("::")[0] for test in mutant.tests)):
        if not (ROOT / path).is_file():
            return f"{path} is not there"
    count = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
    return None if count == 1 else f"{mutant.file} holds this {count} times: {mutant.old}"


def copy_repository(folder: str) -> None:
    """Make this process's own copy: the files that git knows, and new ones that it does not ignore, as they are now."""
    global copy
    copy = Path(folder, str(os.getpid())).resolve()
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)


def run_tests(tests: tuple[str, ...]) -> tuple[int, str]:
    """Pytest's exit code, and the first test that failed; in a fork, where what is slow to import is there already."""
    process = os.fork()
    if not process:
        os.setsid()
        signal.alarm(TIMEOUT_SECONDS)
        with copy.with_suffix(".log").open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(copy)
        sys.path[:] = [str(copy), *(path for path in sys.path if not Path(path).is_relative_to(ROOT / "scripts"))]
        # no bytecode: it is told from the source's by size and seconds, and a change may leave both
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--basetemp={copy}.tmp"]
        code = int(importlib.import_module("pytest").main([*options, *tests]))
        sys.stdout.flush()
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # what it has left behind
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", copy.with_suffix(".log").read_text(errors="replace"), re.MULTILINE)
    return code, failed[1] if failed else f"pytest's exit code is {code}"


def judge(mutant: Mutant) -> tuple[bool, str]:
    """Whether a change is noticed, and by which test."""
    path = copy / mutant.file
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, failed = run_tests(mutant.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    return code == 1, failed


@click.command()
@click.option("--jobs", default=2, show_default=True, help="Runs of pytest at the same time.")
@click.option("--only", default="", help="Only changes whose file or text holds this.")
def main(jobs: int, only: str) -> None:
    mutants = [mutant for mutant in read_table() if only in f"{mutant.file} {mutant.old}"]
    missing = list(filter(None, map(what_is_missing, mutants)))
    if missing:
        raise SystemExit("\n".join(["the table does not fit the code:", *missing]))
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in PRELOADED:
        importlib.import_module(name)
    context = multiprocessing.get_context("fork")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(jobs, context, initializer=copy_repository, initargs=(folder,)) as pool,
    ):
        tests = sorted({(test,) for mutant in mutants for test in mutant.tests})
        failing = [failed for code, failed in pool.map(run_tests, tests) if code]
        if failing:
            raise SystemExit("\n".join(["these fail without any change:", *failing]))
        survived = 0
        for mutant, (is_caught, by) in zip(mutants, pool.map(judge, mutants), strict=True):
            survived += not is_caught
            click.echo(f"{'caught  ' if is_caught else 'SURVIVED'}  {mutant}  ({by})")
    click.echo(f"{len(mutants) - survived} of {len(mutants)} caught")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
