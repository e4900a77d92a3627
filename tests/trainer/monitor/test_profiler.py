import json

import pytest
import torch
from torch.profiler import record_function

from trainer.monitor.profiler import PHASES, StepProfiler


@pytest.mark.parametrize("steps", [1, 2, 3, 30])
def test_a_trace_and_a_table_however_many_steps(tmp_path, steps):
    profiler = StepProfiler(tmp_path, steps, torch.device("cpu"))
    for _ in range(steps):
        for name in PHASES[:-1]:
            with record_function(name):
                torch.ones(200, 200) @ torch.ones(200, 200)
        profiler.step()
    profiler.close()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {"forward", "data wait"} <= {event.get("name") for event in events}
    table = (tmp_path / "table.txt").read_text()
    values = dict(line.rsplit(maxsplit=1) for line in table.splitlines()[2 : 2 + len(PHASES)])
    assert list(values) == list(PHASES)
    assert float(values["forward"]) > 0 and float(values["optimizer"]) == 0
    assert "aten::mm" in table


def test_only_some_steps_are_recorded(tmp_path):
    profiler = StepProfiler(tmp_path, 50, torch.device("cpu"))
    for _ in range(50):
        with record_function("forward"):
            torch.ones(2).sum()
        profiler.step()
    profiler.close()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "forward" for event in events) == 5
