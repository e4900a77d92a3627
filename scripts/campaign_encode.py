"""Kill `trainer.encode` again and again, resume it with other readers, and compare the folder with an undisturbed one.

    python scripts/campaign_encode.py [--kills 20] [--seed 0]

Pictures are made, built into shards of 20 and encoded by scripts/patch_pca.py's autoencoder. Each attempt is a process
of its own with 1 to 4 threads that decode, and dies (SIGKILL) at a moment drawn at random; after every one to three
kills it runs to its end. Checked then: the same bytes, nothing left over, `shardify verify` finds nothing. Exit code 1
if anything is wrong.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from campaign_kill import tree
from patch_pca import main as fit
from PIL import Image

from shardify.build.build import build
from shardify.build.request import BuildRequest
from shardify.format.settings import BuildSettings
from shardify.tools.verify import verify_folder
from trainer.config.vae import VaeSpec
from trainer.tools.latents.encode import EncodeRequest, encode

COUNTS = {"train": 400, "val": 90, "test": 110}
SIZE = 64


def make_shards(work: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for i in range(count):
            path = work / "data" / split / "ab"[i % 2] / f"{i:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            colours = draw.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(colours).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(path)
    build(BuildRequest(work / "data", work / "shards", BuildSettings(frames=1, size=SIZE, shard_size=20), workers=2))
    return work / "shards"


def run(work: Callable[[], object], seconds: float | None = None) -> bool:
    """Do it in a process of its own, which is killed after so many seconds; whether it was."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            work()
            os._exit(0)
        os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)  # one that has ended already waits to be asked
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"an attempt ended with {status}")
    return status != 0


@click.command()
@click.option("--kills", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(kills: int, seed: int) -> None:
    draw, outcomes, done, longest = random.Random(seed), Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shards = make_shards(work)
        fit([str(shards), str(work / "pca.safetensors")], standalone_mode=False)
        vae = VaeSpec(vae="patch_pca:PatchPCA", weights=work / "pca.safetensors")

        def attempt(out: Path) -> Callable[[], object]:
            request = EncodeRequest(shards=shards, vae=vae, out=out, devices="cpu", workers=draw.randint(1, 4))
            return lambda: encode(request)

        start = time.monotonic()
        run(attempt(work / "reference"))
        seconds, reference, out = time.monotonic() - start, tree(work / "reference"), work / "out"
        while done < kills:
            wanted = draw.randint(1, 3)
            longest = max(longest, wanted)
            done += sum(run(attempt(out), draw.uniform(0, seconds)) for _ in range(wanted))
            run(attempt(out))
            is_same = tree(out) == reference and not verify_folder(out, 1)
            outcomes["same" if is_same else "different"] += 1
            shutil.rmtree(out)
    click.echo(f"{done} kills within {seconds:.1f} s, up to {longest} in one folder: {dict(outcomes)}")
    sys.exit(outcomes["different"] > 0)


if __name__ == "__main__":
    main()
