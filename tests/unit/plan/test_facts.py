"""Facts about a machine, against a hand-made NVML."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from axo.errors import HardwareError, RecipeError
from axo.plan import facts


def fake_nvml(count: int) -> ModuleType:
    module = ModuleType("pynvml")
    module.NVMLError = RuntimeError  # type: ignore[attr-defined]
    module.nvmlInit = module.nvmlShutdown = lambda: None  # type: ignore[attr-defined]
    module.nvmlDeviceGetCount = lambda: count  # type: ignore[attr-defined]
    module.nvmlDeviceGetHandleByIndex = lambda index: index  # type: ignore[attr-defined]
    module.nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}abc"  # type: ignore[attr-defined]
    module.nvmlDeviceGetName = lambda handle: f"gpu {handle}"  # type: ignore[attr-defined]
    module.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=100 + handle)  # type: ignore[attr-defined]
    module.nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["gpu 0", "gpu 1", "gpu 2"]),
        ("2,0", ["gpu 2", "gpu 0"]),
        ("1,9,0", ["gpu 1"]),
        ("GPU-2", ["gpu 2"]),
        ("", []),
        ("-1", []),
    ],
)
def test_visible_devices_are_those_that_the_driver_would_show(
    visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(3))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device.name for device in facts.find_hardware().devices] == expected


def test_a_machine_without_a_driver_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml(1)

    def refuse() -> None:
        raise RuntimeError("driver not loaded")

    module.nvmlInit = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert facts.find_hardware().devices == ()


def lose(module: ModuleType, index: int) -> None:
    """GPU `index` has fallen off the bus (NVML_ERROR_GPU_IS_LOST)."""

    def handle(asked: int) -> int:
        if asked == index:
            raise module.NVMLError("GPU is lost")
        return asked

    module.nvmlDeviceGetHandleByIndex = handle  # type: ignore[attr-defined]


@pytest.mark.parametrize("visible", [None, "1", "0,1", "GPU-0,1"])
def test_a_gpu_that_cannot_be_reached_is_named(visible: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(module := fake_nvml(3), 1)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(HardwareError, match="GPU 1 cannot be reached: GPU is lost") as caught:
        facts.find_hardware()
    assert "CUDA_VISIBLE_DEVICES" in str(caught.value.hint)


@pytest.mark.parametrize(("visible", "expected"), [("0,2", ["gpu 0", "gpu 2"]), ("GPU-2", ["gpu 2"]), ("", [])])
def test_a_gpu_that_is_left_out_may_be_lost(visible: str, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lose(module := fake_nvml(3), 1)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [device.name for device in facts.find_hardware().devices] == expected


def test_a_driver_that_fails_at_a_question_is_an_error_of_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml(1)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def refuse(*arguments: object) -> None:
        raise module.NVMLError("Unknown Error")

    for question in ("nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetCount"):
        with monkeypatch.context() as patch:
            patch.setattr(module, question, refuse)
            with pytest.raises(HardwareError, match="the NVIDIA driver cannot read its GPUs: Unknown Error"):
                facts.find_hardware()


def test_a_gpu_without_memory_of_its_own_has_that_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml(1)
    module.NVMLError_NotSupported = type("NVMLError_NotSupported", (RuntimeError,), {})  # type: ignore[attr-defined]

    def refuse(handle: int) -> None:
        raise module.NVMLError_NotSupported("Not Supported")

    module.nvmlDeviceGetMemoryInfo = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    (device,) = facts.find_hardware().devices
    assert device.memory_bytes == int(meminfo["MemTotal"].split()[0]) * 1024


@pytest.mark.parametrize(("asked", "expected"), [("3", 3), ("4,2", 4), ("", None), ("many", None), ("0", None)])
def test_threads_are_asked_for_as_openmp_reads_them(
    asked: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert facts.find_hardware().num_threads == expected


def test_the_config_of_a_folder_is_read_as_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert facts.read_model_config(str(tmp_path)) == {"model_type": "llama"}


@pytest.mark.parametrize("content", [None, "{broken", "", "[1]", "null", '"text"', "[" * 100_000])
def test_a_folder_without_a_readable_config_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(RecipeError, match=r"config\.json"):
        facts.read_model_config(str(tmp_path))


def test_a_hub_model_that_was_never_fetched_has_no_config_yet() -> None:
    assert facts.read_model_config("nobody/never-fetched") is None
