"""The wheel as a user has it: installed into an empty environment, used outside of the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the wheel is built with hatchling, part of the dev extra")

SHIPPED = {".yaml", ".json", ".jsonl", ".jinja", ".py", ".txt", ".html", ".css", ".js"}


def run(*command: str | Path, cwd: Path) -> str:
    """stdout of a command that must succeed, in an environment that knows nothing of the repository."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    words = [str(part) for part in command]
    done = subprocess.run(words, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an environment that holds axo's wheel and borrows the heavy packages of this one.

    A path that a .pth file names is searched, but .pth files in it are not read: an editable axo stays out."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, root, cwd=folder)
    (wheel,) = folder.glob("axo-*.whl")
    env = folder / "env"
    venv.create(env, with_pip=False)
    (site,) = env.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    run(*pip, "--python", env / "bin" / "python", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return env


def test_the_environment_runs_the_installed_axo_and_not_the_repository(
    environment: Path, root: Path, tmp_path: Path
) -> None:
    program = "import axo, json, sys; print(json.dumps([axo.__file__, sys.path]))"
    file, path = json.loads(run(environment / "bin" / "python", "-c", program, cwd=tmp_path))
    assert Path(file).is_relative_to(environment)
    assert str(root) not in path


def test_the_wheel_ships_every_recipe_template_and_deepspeed_config(environment: Path, root: Path) -> None:
    (installed,) = environment.glob("lib/python*/site-packages/axo")
    for folder, inside in (("recipes", "recipes"), ("deepspeed_configs", "deepspeed_configs"), ("axo", "")):
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.suffix in SHIPPED:
                copy = installed / inside / path.relative_to(root / folder)
                assert copy.read_bytes() == path.read_bytes()
    assert list(installed.glob("deepspeed_configs/zero*.json"))
    assert list(installed.glob("data/templates/*.jinja"))


@pytest.mark.slow
@pytest.mark.distributed
def test_the_installed_axo_trains_a_shipped_recipe(environment: Path, tmp_path: Path) -> None:
    axo = environment / "bin" / "axo"
    (tmp_path / "text.txt").write_text("Write 7 March 1999 as an ISO date: 1999-03-07.\n" * 20, encoding="utf-8")
    run(axo, "tiny-model", "base", "--text", "text.txt", cwd=tmp_path)
    keys = ("--base-model", "base", "--output-dir", "out", "--max-steps", "2")
    run(axo, "train", "recipes/quickstart.yaml", *keys, cwd=tmp_path)
    lines = (tmp_path / "out" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
