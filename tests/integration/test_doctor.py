"""`axo doctor`: what it finds on machines made up here, and that it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from axo.plan.facts import Device
from axo.recipe.recipe import owner_of
from axo.recipe.renamed import known_names
from axo.recipe.rewrite import rewrite
from axo.recipe.support import assess
from axo.workflows import doctor_machine, doctor_packages
from axo.workflows.doctor import Report, examine
from axo.workflows.doctor_packages import TorchBuild, optional_parts, required_packages, torch_build

HEAVY = ("torch", "transformers", "datasets", "peft", "accelerate", "numpy", "pyarrow")


class NVMLError(Exception):
    value = 9


def fake_nvml(**changes: Any) -> SimpleNamespace:
    """As much of pynvml as axo asks: an H100 and a V100 under a driver for CUDA 12.8."""
    functions: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: ("NVIDIA H100", "Tesla V100")[handle],
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=(80, 32)[handle] * 2**30),
        "nvmlDeviceGetCudaComputeCapability": lambda handle: ((9, 0), (7, 0))[handle],
        "nvmlSystemGetDriverVersion": lambda: b"570.86",
        "nvmlSystemGetCudaDriverVersion_v2": lambda: 12080,
    }
    return SimpleNamespace(NVMLError=NVMLError, NVML_ERROR_LIBRARY_NOT_FOUND=12, **{**functions, **changes})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlInit=_raiser(12)))


def _raiser(value: int) -> Any:
    def fail(*_: object) -> None:
        error = NVMLError("Driver/library version mismatch")
        error.value = value
        raise error

    return fail


def build(monkeypatch: pytest.MonkeyPatch, torch: TorchBuild | None) -> Report:
    """The report with this build of torch."""
    monkeypatch.setattr("axo.workflows.doctor.torch_build", lambda: torch)
    return examine()


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Other versions for some packages; None: not installed."""

    def other(name: str) -> str:
        if name not in versions:
            return version(name)
        found = versions[name]
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(doctor_packages, "version", other)


def blocking(report: Report) -> list[str]:
    return [fault.message for fault in report.faults if fault.blocks]


# Light


def test_doctor_imports_no_heavy_library() -> None:
    program = (
        "import sys\nfrom axo.cli.main import main\nsys.argv = ['axo', 'doctor']\n"
        f"try:\n    main()\nfinally:\n    print('HEAVY', *sorted({set(HEAVY)!r} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert answer.stdout.splitlines()[-1] == "HEAVY"
    assert "optional parts" in answer.stdout and "Traceback" not in answer.stderr


# The machine


@pytest.mark.usefixtures("no_gpu")
def test_a_machine_without_gpu_can_train_on_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    report = build(monkeypatch, TorchBuild())
    assert report.devices == () and report.nvidia.fault is None
    assert report.can_train and blocking(report) == []
    assert report.memory_bytes is None or report.memory_bytes > 2**28


@pytest.mark.usefixtures("two_gpus")
def test_gpus_driver_and_hidden_gpus_are_those_of_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    report = build(monkeypatch, TorchBuild(cuda="12.8"))
    assert report.devices == (Device("NVIDIA H100", 80 * 2**30, (9, 0)),)
    assert (report.nvidia.driver, report.nvidia.cuda, report.nvidia.hidden) == ("570.86", (12, 8), 1)
    assert report.can_train


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("torch", "kind"), [(TorchBuild(), "a CPU build"), (TorchBuild(hip="6.4"), "a ROCm 6.4 build")]
)
def test_a_gpu_with_a_torch_that_cannot_use_it_blocks(
    monkeypatch: pytest.MonkeyPatch, torch: TorchBuild, kind: str
) -> None:
    report = build(monkeypatch, torch)
    assert len(blocking(report)) == 1 and kind in blocking(report)[0]
    assert "CUDA_VISIBLE_DEVICES=" in report.faults[0].hint
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert build(monkeypatch, torch).can_train, "training on the CPU is asked for"


@pytest.mark.usefixtures("two_gpus")
def test_a_driver_older_than_the_cuda_of_torch_and_a_gpu_that_it_left_behind_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages = blocking(build(monkeypatch, TorchBuild(cuda="13.0")))
    assert len(messages) == 2
    assert "CUDA 13.0" in messages[0] and "570.86 runs CUDA 12.8 at most" in messages[0]
    assert messages[1].startswith("Tesla V100") and "7.0" in messages[1]


def test_a_driver_without_an_answer_is_named_and_a_gpu_without_one_blocks(
    monkeypatch: pytest.MonkeyPatch, two_gpus: SimpleNamespace
) -> None:
    init, two_gpus.nvmlInit = two_gpus.nvmlInit, _raiser(18)
    report = build(monkeypatch, TorchBuild())
    assert report.can_train and "version mismatch; axo sees no GPU" in report.faults[0].message
    two_gpus.nvmlInit, two_gpus.nvmlDeviceGetMemoryInfo = init, _raiser(15)
    assert len(blocking(build(monkeypatch, TorchBuild(cuda="12.8")))) == 1


# Packages


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("found", "says"),
    [(None, "peft is not installed"), ("0.3.0", "peft 0.3.0: axo needs >="), ("strange", "peft strange: axo needs >=")],
)
def test_a_required_package_that_is_missing_or_too_old_blocks(
    monkeypatch: pytest.MonkeyPatch, found: str | None, says: str
) -> None:
    installed(monkeypatch, peft=found)
    report = examine()
    assert len(blocking(report)) == 1 and blocking(report)[0].startswith(says)
    assert report.faults[0].hint.startswith("pip install --upgrade 'peft>=")


@pytest.mark.usefixtures("no_gpu")
def test_an_optional_package_that_is_too_old_is_named_and_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorboard="0.1.0", wandb=None)
    report = examine()
    assert report.can_train
    assert any(fault.message.startswith("tensorboard 0.1.0: axo needs >=") for fault in report.faults)
    wandb = next(part for part in report.parts if part.package.name == "wandb")
    assert (wandb.package.version, wandb.install) == (None, "pip install 'axo[wandb]'")


def test_required_packages_and_extras_are_those_of_the_project_file(root: Path) -> None:
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    plain = {_name(line) for line in project["dependencies"]}
    assert {_name(package.name) for package in required_packages()} == plain
    extras = {_name(line): extra for extra, lines in project["optional-dependencies"].items() for line in lines}
    for part in optional_parts():
        extra = extras.get(part.package.name)
        if extra not in (None, "dev"):
            assert part.install == f"pip install 'axo[{extra}]'"


def _name(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].lower().replace("_", "-")


def test_every_key_that_a_part_names_is_a_key_of_a_recipe() -> None:
    from axo.recipe.renamed import SWITCHES

    keys = {key.partition(":")[0] for part in optional_parts() for key in part.keys}
    assert [key for key in keys if owner_of(key) is None and key not in (*known_names(), *SWITCHES)] == []


VALUES = {"wandb_project": "mine"}
"""Of the keys that a part names without a value, those that are no switches."""


def test_every_key_that_a_part_names_is_one_that_axo_runs() -> None:
    named = [key for part in optional_parts() for key in part.keys]
    assert named
    for text in named:
        key, _, value = text.partition(": ")
        rewritten = rewrite({key: value or VALUES.get(key, True)})
        support = assess(rewritten.flat)
        assert (support.refusals, support.idle, rewritten.not_yet) == ((), {}, ()), text
        assert rewritten.flat, f"{text} switches nothing on"


def test_the_build_of_torch_is_the_one_that_torch_says() -> None:
    import torch

    found = torch_build()
    assert found is not None
    assert (found.cuda, found.hip) == (torch.version.cuda, torch.version.hip)


# Hub


def test_the_token_is_found_and_never_shown(tmp_path: Path) -> None:
    environment = {"HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""}
    for words in (["doctor"], ["doctor", "--json"]):
        answer = subprocess.run(
            [sys.executable, "-m", "axo", *words], capture_output=True, text=True, check=False, env=environment
        )
        assert "hf_secret" not in answer.stdout + answer.stderr
    hub = json.loads(answer.stdout)["hub"]
    assert hub == {"token": True, "offline": True, "cache": str(tmp_path / "hub"), "cache_writable": True}


def test_a_cache_that_cannot_be_a_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    hub = doctor_machine.find_hub()
    assert hub is not None and (hub.cache_writable, hub.token) == (False, False)
    (tmp_path / "token").write_text("hf_secret\n")
    found = doctor_machine.find_hub()
    assert found is not None and found.token


# The command


@pytest.mark.usefixtures("no_gpu")
def test_the_exit_code_is_4_where_nothing_can_be_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from axo.cli.main import main

    for code, packages in ((0, {}), (4, {"peft": None, "torch": "1.0"})):
        installed(monkeypatch, **packages)
        monkeypatch.setattr(sys, "argv", ["axo", "doctor", "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == code
        assert len(printed.out.splitlines()) == 1
        assert json.loads(printed.out)["can_train"] is (code == 0)
        if code:
            assert "error: axo cannot train on this machine" in printed.err and "(and 1 more)" in printed.err
