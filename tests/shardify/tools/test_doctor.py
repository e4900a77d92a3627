import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from shardify.cli.main import main
from shardify.tools import doctor


def report():
    return CliRunner().invoke(main, ["doctor"])


def test_every_line_is_marked_and_every_cross_has_a_remedy():
    result = report()
    lines = result.output.splitlines()
    assert len(lines) > 12 and all(line[:2] in ("✓ ", "✗ ") for line in lines)
    assert all((line[0] == "✗") == (" → " in line) for line in lines)
    for start in ("✓ python 3.", "✓ torch ", "✓ timm ", "✓ av ", "✓ decodes h264"):
        assert any(line.startswith(start) for line in lines), start
    assert result.exit_code == 0


def test_a_missing_essential_is_exit_code_1_but_not_where_only_training_is_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    assert report().exit_code == 1 and "pip install av, which decodes videos" in report().output
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    result = report()
    assert result.exit_code == 0 and "✗ av" in result.output and "✓ Kaggle notebook" in result.output


@pytest.mark.parametrize(
    ("package", "line"),
    [("torch", "✗ torch: cannot be imported"), ("numpy", "error: ")],
)
def test_it_runs_where_a_package_is_missing(package, line):
    hidden = f"import sys; sys.modules |= dict.fromkeys(({package!r}, 'torch'))"  # which takes seconds to import
    code = f"{hidden}; from shardify.cli.main import main; main(['doctor'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert line in done.stdout + done.stderr and "pip install" in done.stdout + done.stderr


def test_something_optional_that_is_missing_is_no_failure(monkeypatch):
    names = ("simplejpeg", "transformers", "onnxruntime")
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    result = report()
    assert result.exit_code == 0 and all(f"✗ {name}: " in result.output for name in names)


def test_credentials_are_never_shown(monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    output = report().output
    assert "✓ Kaggle credentials: in KAGGLE_USERNAME and KAGGLE_KEY" in output
    assert "0123456789abcdef" not in output and "somebody" not in output


def test_locks_are_tried_where_it_is_run(tmp_path):
    assert doctor.locks(tmp_path).ok and not list(tmp_path.iterdir())
    missing = doctor.locks(tmp_path / "missing")
    assert not missing.ok and "No such file" in missing.text


def test_keys_of_object_storage_are_named_and_never_shown(monkeypatch):
    for name in {name for sets in doctor.KEYS.values() for names in sets for name in names}:
        monkeypatch.delenv(name, raising=False)
    assert str(doctor.keys()).startswith("✗ keys of object storage: none in the environment → ")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert not doctor.keys().ok  # one of two
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    assert str(doctor.keys()) == (
        "✓ keys of object storage: s3 by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, gs by GOOGLE_SKIP_SIGNATURE"
    )


def test_colab_is_recognised(monkeypatch):
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab_20260101")
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    assert doctor.notebook().text.startswith("Colab notebook")


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "50000 100000\n"},
        {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_a_containers_share_of_the_cores_counts(tmp_path, files):
    found = doctor.cores(write(tmp_path, files))
    assert not found.ok and "may use 0.5" in found.text and "--workers 1" in found.remedy


@pytest.mark.parametrize("files", [{}, {"cpu.max": "max 100000\n"}, {"cpu/cpu.cfs_quota_us": "-1\n"}])
def test_without_a_limit_all_cores_count(tmp_path, files):
    assert doctor.cores(write(tmp_path, files)).ok


@pytest.mark.parametrize(
    ("files", "text", "ok"),
    [
        ({"proc/meminfo": "MemAvailable: 7812500 kB\n"}, "8.0 GB free", True),
        ({"proc/meminfo": "MemAvailable: 781250 kB\n"}, "800.0 MB free", False),
        ({"proc/meminfo": "nothing\n"}, "cannot be read", False),
        ({}, "cannot be read", False),
    ],
)
def test_memory(tmp_path, files, text, ok):
    found = doctor.memory(write(tmp_path, files))
    assert text in found.text and found.ok is ok


def test_the_video_for_nvdec_is_one_that_the_cpu_decodes(tmp_path):
    from shardify.video.decode import decode_video

    assert decode_video(doctor._short_video(tmp_path / "try.mp4"), frames=2, size=64).info.codec == "h264"


@pytest.mark.parametrize(("shell", "name"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_tab_completion(monkeypatch, tmp_path, shell, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    missing = doctor.completion()
    assert not missing.ok and name in missing.remedy
    (tmp_path / name).write_text(missing.remedy.split(": ", 1)[1] + "\n")
    assert doctor.completion().ok
    source = CliRunner().invoke(main, [], env={"_SHARDIFY_COMPLETE": f"{shell}_source"}, prog_name="shardify")
    assert "_shardify_completion" in source.output


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda device: 40, "✓ GPU use: 40% at present"),
        (ModuleNotFoundError("pynvml"), "✗ GPU use: cannot be read without nvidia-ml-py → pip install nvidia-ml-py"),
        (RuntimeError("Not\nSupported"), "✗ GPU use: cannot be read (Not Supported) → training does not show it"),
    ],
)
def test_whether_the_use_of_a_gpu_can_be_shown(monkeypatch, answer, line):
    import torch

    def utilization(device):
        if isinstance(answer, Exception):
            raise answer
        return answer(device)

    monkeypatch.setattr(torch.cuda, "utilization", utilization)
    assert str(doctor.gpu_use()).startswith(line)
