"""A report on this machine: what building and training use, and what to do where something is missing."""

from __future__ import annotations

import fcntl
import importlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from shardify.machine import cpu_share, free_memory_bytes, on_kaggle, usable_cores
from shardify.text import human_bytes

CGROUP = Path("/sys/fs/cgroup")
PYTHON, TORCH = (3, 11), (2, 10)
LOW_BYTES = 2e9  # of memory or disk
DECODERS = {  # what data sets are made of → the decoders of libav that need no hardware
    "h264": ("h264",),
    "hevc": ("hevc",),
    "vp8": ("vp8",),
    "vp9": ("vp9",),
    "av1": ("libdav1d", "libaom-av1"),
    "mpeg4": ("mpeg4",),
    "mjpeg": ("mjpeg",),
}
KEYS = {  # of object storage: what must be set, any of these sets
    "s3": (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_SKIP_SIGNATURE",)),
    "gs": (("GOOGLE_APPLICATION_CREDENTIALS",), ("GOOGLE_SERVICE_ACCOUNT_KEY",), ("GOOGLE_SKIP_SIGNATURE",)),
    "az": tuple(
        ("AZURE_STORAGE_ACCOUNT_NAME", how)
        for how in ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_SKIP_SIGNATURE")
    ),
    "hf": (("HF_TOKEN",),),
}
COMPLETION = {
    "bash": ("~/.bashrc", 'eval "$(_SHARDIFY_COMPLETE=bash_source shardify)"'),
    "zsh": ("~/.zshrc", 'eval "$(_SHARDIFY_COMPLETE=zsh_source shardify)"'),
    "fish": ("~/.config/fish/completions/shardify.fish", "_SHARDIFY_COMPLETE=fish_source shardify | source"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; without an essential, nothing works."""

    ok: bool
    text: str
    remedy: str = ""
    is_essential: bool = False

    def __str__(self) -> str:
        mark = "✓" if self.ok else "✗"
        return f"{mark} {self.text}" if self.ok else f"{mark} {self.text} → {self.remedy}"


def examine() -> list[Finding]:
    """All findings, in the order in which they are shown."""
    return [
        *_python(),
        *_decoders(),
        cores(),
        memory(),
        _disk(),
        locks(),
        keys(),
        *_gpus(),
        _nvdec(),
        notebook(),
        *_kaggle(),
        completion(),
    ]


def _python() -> Iterator[Finding]:
    ok = sys.version_info >= PYTHON
    yield Finding(ok, f"python {platform.python_version()}", "install Python 3.11 or newer", is_essential=True)
    builds = not on_kaggle()  # there, shards are trained on
    for name, use, is_essential in (
        ("torch", "trains", True),
        ("torchvision", "has parts of the models", True),
        ("timm", "has all backbones but the tiny one", True),
        ("av", "decodes videos", builds),
        ("webdataset", "reads shards in other programs", False),
        ("simplejpeg", "decodes JPEG faster than Pillow", False),
        ("obstore", "reads and writes shards in object storage", False),
        ("huggingface_hub", "reads shards of the Hugging Face Hub", False),
        ("ray", "builds on a cluster", False),
        ("transformers", "has encoders of multimodal models", False),
        ("onnxruntime", "runs exported models", False),
    ):
        yield _package(name, use, is_essential)


def _package(name: str, use: str, is_essential: bool) -> Finding:
    try:
        importlib.import_module(name)
        found = version(name)
    except Exception as error:  # a package whose binary does not fit raises what it likes
        text = f"{name}: cannot be imported ({_line(error)})"
        return Finding(False, text, f"pip install {name}, which {use}", is_essential)
    if name == "torch" and tuple(int(part) for part in found.split(".")[:2]) < TORCH:
        wanted = ".".join(map(str, TORCH))
        return Finding(False, f"torch {found} is older than {wanted}", f"pip install 'torch>={wanted}'", is_essential)
    return Finding(True, f"{name} {found}{_details(name)}")


def _details(name: str) -> str:
    if name != "av":
        return ""
    import av

    return f" with libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def _decoders() -> Iterator[Finding]:
    if not _has("av"):
        return
    import av

    there = {name: any(decoder in av.codecs_available for decoder in decoders) for name, decoders in DECODERS.items()}
    yield Finding(there["h264"], "decodes h264", "pip install --force-reinstall av", is_essential=True)
    others = [name for name in there if name != "h264"]
    missing = [name for name in others if not there[name]]
    yield Finding(
        not missing,
        f"decodes {', '.join(name for name in others if there[name])}"
        + (f"; not {', '.join(missing)}" * bool(missing)),
        "videos of these codecs will fail; pip install --force-reinstall av",
    )


def cores(cgroup: Path = CGROUP) -> Finding:
    """How many cores there are, and how many a container may use at a time."""
    count, share = usable_cores(), cpu_share(cgroup)
    if share is not None and share < count:
        return Finding(
            False,
            f"{count} cores are visible, but this container may use {share:g}",
            f"pass --workers {max(1, round(share))} to build",
        )
    return Finding(True, f"{count} cores (of {os.cpu_count()} in the machine)")


def memory(root: Path = Path("/")) -> Finding:
    """What is free for this process, under the container's limit."""
    try:
        free = free_memory_bytes(root)
    except (OSError, StopIteration, ValueError):
        return Finding(False, "memory: cannot be read here", "look that each worker can have 1 GB")
    return Finding(
        free >= LOW_BYTES, f"memory: {human_bytes(free)} free", "close other programs, or pass fewer --workers"
    )


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding(
        free >= LOW_BYTES, f"disk: {human_bytes(free)} free in this folder", "make room, or use another disk"
    )


def locks(folder: Path = Path()) -> Finding:
    """Whether files can be locked in a folder, by which builds and runs keep out of each other's way."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        remedy = "build and train in a folder that can be written to, on a file system that is mounted with locks"
        return Finding(False, f"locks: not in this folder ({error.strerror})", remedy)
    return Finding(True, "locks: work in this folder")


def keys() -> Finding:
    """By which variables of the environment object storage is asked: their names, never what they hold."""
    said = []
    for scheme, sets in KEYS.items():
        if complete := [names for names in sets if all(map(os.environ.get, names))]:
            said.append(f"{scheme} by {' and '.join(complete[0])}")
    remedy = "only to use buckets; docs/storage.md says what to set, and where else keys are looked for"
    return Finding(bool(said), f"keys of object storage: {', '.join(said) or 'none in the environment'}", remedy)


def _gpus() -> Iterator[Finding]:
    if not _has("torch"):
        return
    import torch

    from shardify.machine import is_supported

    if not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version").exists()
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "this torch is for CPUs only"
        remedy = f"{built}: update the driver or install the torch that fits it" if driver else "training uses the CPU"
        yield Finding(False, "GPU: there is a driver but torch cannot use it" if driver else "GPU: none", remedy)
        return
    built_for = torch.cuda.get_arch_list()
    for number in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(number)
        yield Finding(
            is_supported((device.major, device.minor), built_for),
            f"GPU {number}: {device.name}, sm_{device.major}{device.minor}, {human_bytes(device.total_memory)}",
            f"this torch is built for {' '.join(built_for)} only; choose another accelerator, or --devices cpu",
        )
    yield gpu_use()


def gpu_use() -> Finding:
    """Whether training can show how busy a GPU is."""
    import torch

    try:
        return Finding(True, f"GPU use: {torch.cuda.utilization(0)}% at present")
    except ModuleNotFoundError:
        remedy = "pip install nvidia-ml-py, and training shows how busy the GPU is"
        return Finding(False, "GPU use: cannot be read without nvidia-ml-py", remedy)
    except Exception as error:  # some drivers, and parts of a GPU, do not say
        return Finding(False, f"GPU use: cannot be read ({_line(error)})", "training does not show it")


def _nvdec() -> Finding:
    remedy = "videos are decoded on the CPU"
    if not _has("av"):
        return Finding(False, "NVDEC: not tried without av", remedy)
    from shardify.video.decode import decode_video
    from shardify.video.nvdec import check_cuda

    try:
        check_cuda()
        with tempfile.TemporaryDirectory() as folder:
            used = decode_video(_short_video(Path(folder) / "try.mp4"), frames=2, size=64, decoder="cuda").decoder
    except Exception as error:  # libav and the driver raise a dozen types
        reason = _line(error).removeprefix("--decoder cuda: ").removesuffix("; use --decoder cpu")
        return Finding(False, f"NVDEC: {reason}", remedy)
    return Finding(used == "cuda", "NVDEC: decoded a video" if used == "cuda" else "NVDEC: refused a video", remedy)


def _short_video(path: Path) -> Path:
    """Ten grey H.264 pictures of 256 × 256 pixels, which NVDEC is able to decode."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width = stream.height = 256
        stream.pix_fmt = "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(256, 256, "yuv420p")))
        container.mux(stream.encode(None))
    return path


def notebook() -> Finding:
    """Kaggle and Colab, where shards are found and results survive in places of their own."""
    if on_kaggle():
        return Finding(True, "Kaggle notebook: data sets lie below /kaggle/input, results belong in /kaggle/working")
    if os.environ.get("COLAB_RELEASE_TAG"):
        return Finding(True, "Colab notebook: what is not on Drive is gone when it ends")
    return Finding(True, "neither a Kaggle nor a Colab notebook")


def _kaggle() -> Iterator[Finding]:
    from shardify.kaggle.credentials import find_credentials

    try:
        yield Finding(True, f"kaggle {version('kaggle')}")
    except PackageNotFoundError:
        yield Finding(False, "kaggle: not installed", "pip install '.[kaggle]' to send shards with shardify kaggle")
    found = find_credentials()
    text = f"Kaggle credentials: in {found}" if found else "Kaggle credentials: none"
    yield Finding(found is not None, text, "only to send shards; https://www.kaggle.com/settings/api makes them")


def completion() -> Finding:
    """Whether the shell that is used completes `shardify` by the tab key."""
    shell = Path(os.environ.get("SHELL", "")).name
    file, line = COMPLETION.get(shell, COMPLETION["bash"])
    path = Path(file).expanduser()
    there = path.is_file() and "_SHARDIFY_COMPLETE" in path.read_text(encoding="utf-8", errors="replace")
    return Finding(there, f"tab completion in {shell or 'bash'}", f"put into {file}: {line}")


def _has(name: str) -> bool:
    return sys.modules.get(name) is not None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
