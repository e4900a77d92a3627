"""The profiler of `profile=true`: a trace of some steps, and a table of where their time went."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

SKIPPED, RECORDED = 5, 5  # steps; the first ones pick kernels, fill caches and compile
PHASES = ("data wait", "augment", "forward", "backward", "optimizer")  # ranges that the engine and the loader name


class StepProfiler:
    """The profiler of some steps of an epoch; `step()` follows every one."""

    def __init__(self, folder: Path, steps: int, device: torch.device) -> None:
        self._folder, self._device = folder, device
        skipped = min(SKIPPED, max(0, steps - 2) // 2)
        self._recorded = max(1, min(RECORDED, steps - skipped - 1))
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
        plan = schedule(wait=skipped, warmup=1 if steps > 1 else 0, active=self._recorded, repeat=1)
        self._profiler = profile(activities=activities, schedule=plan, on_trace_ready=self._write)
        self._profiler.start()
        self.close = self._profiler.stop

    def step(self) -> None:
        self._profiler.step()

    def _write(self, profiler: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(self._folder / "trace.json"))
        table = time_table(profiler.key_averages(), self._recorded, self._device.type == "cuda")
        (self._folder / "table.txt").write_text(table, encoding="utf-8")


def time_table(averages, steps: int, has_gpu: bool) -> str:
    """Milliseconds per step by phase, then the operations that took the longest.

    The GPU's work of the backward pass is started by another thread, so it is what the other phases leave.
    """
    on_cpu = [event for event in averages if event.device_type == DeviceType.CPU]
    found = {event.key.split("#")[0].replace("Optimizer.step", "optimizer"): event for event in on_cpu}
    lines = [f"per step, mean of {steps}", f"{'phase':<12} {'CPU ms':>10}" + (f" {'GPU ms':>10}" if has_gpu else "")]
    kernels = [e for e in averages if e.device_type != DeviceType.CPU and not e.is_user_annotation]
    total = sum(event.self_device_time_total for event in kernels)
    others = sum(found[name].device_time_total for name in PHASES if name in found and name != "backward")
    for name in PHASES:
        event = found.get(name)
        cpu = event.cpu_time_total if event else 0.0
        gpu = max(0.0, total - others) if name == "backward" else event.device_time_total if event else 0.0
        lines.append(f"{name:<12} {cpu / steps / 1e3:10.2f}" + (f" {gpu / steps / 1e3:10.2f}" if has_gpu else ""))
    spent = sum(found[name].cpu_time_total for name in PHASES if name in found)
    whole = found["ProfilerStep*"].cpu_time_total if "ProfilerStep*" in found else spent
    lines.append(f"{'rest':<12} {max(0.0, whole - spent) / steps / 1e3:10.2f}")
    by = "self_cuda_time_total" if has_gpu else "self_cpu_time_total"
    return "\n".join(lines) + f"\n\noperations\n{averages.table(sort_by=by, row_limit=30)}\n"
