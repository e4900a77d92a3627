"""Other loaders on the same contact sheets, each as its documentation shows it; for scripts/bench_loader.py.

Each function prepares what its library needs and returns a function that makes one pass: batches of frames, uint8
(B, T, S, S, 3), and of labels, which number the clips.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from shardify.format.members.frames import from_sheet, grid_shape

CORES = len(os.sched_getaffinity(0))
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def cut(picture: Image.Image, frames: int) -> np.ndarray:
    return from_sheet(np.asarray(picture.convert("RGB")), frames).copy()


def read_sheet(payload: bytes, frames: int) -> np.ndarray:
    return cut(Image.open(io.BytesIO(payload)), frames)


def webdataset(folder: Path, sheets: list[bytes], frames: int, batch: int) -> Callable[[], Batches]:
    import webdataset

    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(500).decode("pil")
    dataset = dataset.to_tuple("jpg", "cls").map_tuple(lambda picture: cut(picture, frames))
    loader = webdataset.WebLoader(dataset, batch_size=batch, num_workers=CORES, persistent_workers=True)
    return lambda: iter(loader)


def mosaic(folder: Path, sheets: list[bytes], frames: int, batch: int) -> Callable[[], Batches]:
    from streaming import MDSWriter, StreamingDataset

    class Clips(StreamingDataset):
        def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
            sample = super().__getitem__(at)
            return read_sheet(sample["sheet"], frames), sample["label"]

    out = folder.parent / "mds"
    with MDSWriter(out=str(out), columns={"sheet": "bytes", "label": "int"}) as writer:
        for i, payload in enumerate(sheets):
            writer.write({"sheet": payload, "label": i})
    clips = Clips(local=str(out), shuffle=True, batch_size=batch)
    loader = DataLoader(clips, batch_size=batch, num_workers=CORES, persistent_workers=True)
    return lambda: iter(loader)


def litdata(folder: Path, sheets: list[bytes], frames: int, batch: int) -> Callable[[], Batches]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    class Clips(StreamingDataset):
        def __getitem__(self, at: int) -> tuple[np.ndarray, int]:
            payload, label = super().__getitem__(at)
            return read_sheet(payload, frames), label

    out = folder.parent / "litdata"
    out.mkdir()
    writer = BinaryWriter(str(out), chunk_bytes=1 << 26)
    for i, payload in enumerate(sheets):
        writer[i] = (payload, i)
    writer.done()
    writer.merge()
    loader = StreamingDataLoader(
        Clips(str(out), shuffle=True), batch_size=batch, num_workers=CORES, persistent_workers=True
    )
    return lambda: iter(loader)


def dali(folder: Path, sheets: list[bytes], frames: int, batch: int) -> Callable[[], Batches]:
    """On the CPU; the frames are cut by its own operators."""
    from nvidia.dali import fn, pipeline_def, types

    rows, columns = grid_shape(frames)
    with Image.open(io.BytesIO(sheets[0])) as picture:
        size = picture.width // columns

    @pipeline_def(batch_size=batch, num_threads=CORES, device_id=None, prefetch_queue_depth=4)
    def pipeline():
        paths = [str(path) for path in sorted(folder.glob("*.tar"))]
        pictures, labels = fn.readers.webdataset(paths=paths, ext=["jpg", "cls"], random_shuffle=True, name="clips")
        pictures = fn.decoders.image(pictures, device="cpu", output_type=types.RGB)
        cells = fn.reshape(pictures, shape=[rows, size, columns, size, 3])
        cells = fn.transpose(cells, perm=[0, 2, 1, 3, 4])
        return fn.reshape(cells, shape=[rows * columns, size, size, 3])[:frames], labels

    running = pipeline()
    running.build()

    def one_pass() -> Batches:
        for first in range(0, len(sheets), batch):
            clips, labels = running.run()
            count = min(batch, len(sheets) - first)  # its last batch begins the next pass
            numbers = [int(bytes(np.asarray(labels[i]))) for i in range(count)]
            yield torch.from_numpy(clips.as_array())[:count], torch.tensor(numbers)

    return one_pass


def spdl(folder: Path, sheets: list[bytes], frames: int, batch: int) -> Callable[[], Batches]:
    """Decoded by its own FFmpeg in threads of one process; it mixes whole shards alone."""
    import spdl.io
    from spdl.dataloader import DataLoader

    class Members:
        def __iter__(self) -> Iterator[tuple[bytes, int]]:
            paths = sorted(folder.glob("*.tar"))
            for path in random.sample(paths, len(paths)):
                with path.open("rb") as file:
                    members = spdl.io.iter_tarfile(file)
                    for (_, label), (_, payload) in zip(members, members, strict=True):  # .cls, .jpg
                        yield payload, int(label)

    def decode(clip: tuple[bytes, int]) -> tuple[np.ndarray, int]:
        picture = spdl.io.to_numpy(spdl.io.load_image(clip[0]))
        return from_sheet(picture, frames), clip[1]

    def stack(clips: list[tuple[np.ndarray, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures, labels = zip(*clips, strict=True)
        return torch.from_numpy(np.stack(pictures)), torch.tensor(labels)

    loader = DataLoader(Members(), preprocessor=decode, batch_size=batch, aggregator=stack, num_threads=CORES)
    return lambda: iter(loader)


PEERS = {  # shown as: the package that it needs, and how it is opened
    "webdataset + DataLoader": ("webdataset", webdataset),
    "MosaicML Streaming": ("streaming", mosaic),
    "LitData": ("litdata", litdata),
    "NVIDIA DALI, CPU": ("nvidia.dali", dali),
    "SPDL": ("spdl.io", spdl),
}


def open_peers(folder: Path, sheets: list[bytes], frames: int, batch: int) -> dict[str, Callable[[], Batches]]:
    """Those that are installed, with what they print kept away."""
    opened = {}
    for name, (package, open_peer) in PEERS.items():
        if not installed(package):
            print(f"{name}: not installed")
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            opened[name] = open_peer(folder, sheets, frames, batch)
    return opened
