"""Pictures encoded once: a shards folder whose clips have the latents of an autoencoder as one member more."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch

from shardify.format.index import ShardIndex, all_shards, json_bytes, read_index, read_meta, sha256
from shardify.format.members.array import Array
from shardify.format.schema import SHARD
from shardify.format.shard import ShardWriter, read_journal
from shardify.progress import Progress
from shardify.storage.local import list_names, write_atomically
from trainer.config.run_folder import hold_plain
from trainer.config.vae import VaeSpec
from trainer.devices.distributed import join_group, num_devices
from trainer.devices.gpu import check_gpu
from trainer.errors import FormatError, SettingsError
from trainer.models.autoencoders.load import load_vae
from trainer.models.autoencoders.vae import Vae
from trainer.shards.payloads import crc32
from trainer.tools.latents.pictures import Clip, Pictures, check_is_local, open_pictures, to_images
from trainer.tools.latents.tables import write_tables

logger = logging.getLogger(__name__)

BATCH = 16  # pictures at a time, always: kernels round differently for other sizes
NOTE = ".encode.json"  # what is being encoded, in a folder that has no index yet


@dataclass(frozen=True, kw_only=True)
class EncodeRequest:
    """What `trainer.encode` is asked for."""

    shards: Path
    vae: VaeSpec
    out: Path
    devices: str = "auto"
    workers: int = 0  # threads that read and decode pictures; 0: one per core


def encode(request: EncodeRequest) -> ShardIndex:
    """Write the folder with the latents and return its index; an interrupted call resumes after whole shards.

    The same shards, autoencoder, device and number of torch's threads give the same bytes, however often it was
    stopped: it resumes with as many threads as it began with. Raises FormatError for damaged pictures and latents that
    are not finite, SettingsError where the folder is of another autoencoder.
    """
    device = join_group(num_devices(request.devices) > 0).device
    check_gpu(device)
    check_is_local(request.out)
    pictures = open_pictures(request.shards)
    if "latent" in pictures.shards.members:
        raise FormatError(f"{pictures.index.folder}: has latents already; pass the folder that they were made of")
    if len(pictures.shards.numbers("train")) == 0:
        raise FormatError(f"{pictures.index.folder}: has no train split, over which the statistics are made")
    vae = load_vae(request.vae, device)
    channels, height, width = vae.shape(pictures.size)
    about = {
        "vae": vae.record,
        "input_range": list(vae.input_range),
        "downsampling": pictures.size // height,
        "batch": BATCH,
        "device": device.type,
        "source": pictures.index.meta["index_sha256"],
    }
    latent = Array(name="latent", sides=(2 * channels, height, width), type="float16")
    with hold_plain(request.out):
        if is_finished := (request.out / "index.json").is_file():
            _check_same(read_meta(request.out).get("members", {}).get("latent", {}), about, vae, request.out)
        else:
            _begin(request.out, about, vae)
            with ThreadPoolExecutor(request.workers or len(os.sched_getaffinity(0))) as pool:
                entries = Encoder(pictures, vae, latent, request.out, about).encode_all(pool)
            write_tables(pictures, request.out, entries, latent, about)
        _clear_up(request.out)
        if is_finished:
            logger.info(f"{request.out}: has these latents already")
        return read_index(request.out)


@dataclass(frozen=True)
class Encoder:
    """What encodes each shard: the pictures, the autoencoder, the new member, where shards go, what decides them."""

    pictures: Pictures
    vae: Vae
    latent: Array  # as values alone: their record is known at the end
    out: Path
    about: dict

    def encode_all(self, pool: ThreadPoolExecutor) -> list[dict]:
        """The journal entries of all shards, in the order of index.json."""
        shards = all_shards(self.pictures.index.meta)
        plans = {shard["name"]: self._plan(shard) for shard in shards}
        done = {name: read_journal(self.out, name, plan) for name, plan in plans.items()}
        missing = [shard for shard in shards if done[shard["name"]] is None]
        if len(missing) < len(shards):
            logger.info(f"resuming: {len(shards) - len(missing)} of {len(shards)} shards are finished already")
        with contextlib.closing(Progress(sum(shard["samples"] for shard in missing), "picture")) as progress:
            for shard in missing:
                done[shard["name"]] = self._encode_shard(shard, plans[shard["name"]], pool, progress)
        return [done[shard["name"]] for shard in shards]

    def _plan(self, shard: dict) -> str:
        return sha256(json_bytes([self.about, shard["sha256"], shard["name"], _libraries()]))

    def _encode_shard(self, shard: dict, plan: str, pool: ThreadPoolExecutor, progress: Progress) -> dict:
        members = {**self.pictures.shards.members, "latent": self.latent}
        with ShardWriter(self.out, shard["name"], members) as writer:
            for clips, pictures in self.pictures.batches(shard["name"], BATCH, pool):
                for clip, latent, error in zip(clips, *self._encode(clips, pictures), strict=True):
                    payload = self.latent.encode(latent)
                    row = {"key": clip.row["key"], "status": "ok", "latent_crc": crc32(payload), "mse": error}
                    writer.copy(row, {**clip.files, self.latent.extension: payload})
                    progress.advance(1, False)
            return writer.finish(plan, {**shard["versions"], **_libraries()})

    def _encode(self, clips: list[Clip], pictures: np.ndarray) -> tuple[np.ndarray, list[float]]:
        """Latents, float16 (B, 2C, h, w), and of each picture the mean squared error of what its latent decodes to."""
        filled = pictures[np.minimum(np.arange(BATCH), len(pictures) - 1)]
        images = to_images(filled).to(self.vae.device)
        moments = torch.cat(self.vae.moments(self.vae.to_input(images)), 1).half()
        decoded = self.vae.decode(moments[:, : self.latent.sides[0] // 2].float())
        errors = (decoded - images).square().double().mean((1, 2, 3)).tolist()[: len(clips)]
        latents = moments[: len(clips)].cpu().numpy()
        for clip, latent, error in zip(clips, latents, errors, strict=True):
            if not (np.isfinite(latent).all() and np.isfinite(error)):
                raise FormatError(
                    f"{clip.row['source']}: the autoencoder gives values for it that are not finite, or beyond what "
                    f"float16 holds (clip {clip.row['key']}); check it with trainer.check_vae"
                )
        return latents, errors


def _libraries() -> dict[str, str]:
    """The versions that decide how an autoencoder rounds."""
    found = {"torch": torch.__version__}
    with contextlib.suppress(PackageNotFoundError):
        found["diffusers"] = version("diffusers")
    return found


def _begin(out: Path, about: dict, vae: Vae) -> None:
    """Note what is being encoded, or check that it is what was begun. Raises SettingsError."""
    path = out / NOTE
    names = [name for name in list_names(out) if not name.endswith(".tmp")]
    if path.is_file():
        try:
            begun = json.loads(path.read_text(encoding="utf-8"))
            threads = int(begun["threads"])
        except (ValueError, TypeError, KeyError) as error:
            raise SettingsError(f"{path}: is damaged; remove {out} and encode again") from error
        _check_same(begun, about, vae, out)
        torch.set_num_threads(threads)  # on a CPU, another number of them rounds differently
    elif names:
        raise SettingsError(f"{out}: holds {names[0]}, but no latents; pass an empty or a new folder with --out")
    else:
        write_atomically(path, json_bytes({**about, "threads": torch.get_num_threads()}))


def _check_same(begun: dict, about: dict, vae: Vae, out: Path) -> None:
    """Raises SettingsError where the folder was begun, or finished, with something else."""
    if "vae" not in begun:
        raise SettingsError(f"{out}: is a shards folder without latents; pass an empty or a new folder with --out")
    vae.check_is(begun["vae"], str(out))
    for name, value in about.items():
        if name != "vae" and begun.get(name) != value:
            what = "shards whose index_sha256 is" if name == "source" else name
            raise SettingsError(
                f"{out}: was encoded with {what} {begun.get(name)}, and this would be {value}; pass the same, or "
                f"another --out"
            )


def _clear_up(out: Path) -> None:
    for name in list_names(out):
        is_journal = name.startswith(".") and SHARD.fullmatch(name[1:].removesuffix(".json"))
        if name == NOTE or is_journal or (name.startswith(".") and name.endswith(".tmp")):
            (out / name).unlink()
