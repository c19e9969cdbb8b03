"""What the shell gets when somebody presses Tab: asked as bash, zsh and fish ask, through the environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from axo.cli.complete import recipe_files, recipe_keys, words_of

AXO = Path(sys.executable).parent / "axo"

pytestmark = pytest.mark.skipif(not AXO.exists(), reason="the command axo is not installed beside this Python")


def ask(words: str, *, cwd: Path, shell: str = "bash") -> list[str]:
    """Lines that `axo` prints for a command line whose last word (empty after a blank) is being completed."""
    environment = {
        "PATH": "",
        "_AXO_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    answer = subprocess.run(
        [str(AXO)], env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.stderr == ""
    return answer.stdout.split("\n")[:-1]


def test_bash_completes_verbs_files_keys_and_their_words(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert ask("axo pre", cwd=tmp_path) == ["preprocess"]
    assert ask("axo train ", cwd=tmp_path) == ["one.yaml"]
    assert ask("axo train one.yaml --lear", cwd=tmp_path) == ["--learning-rate"]
    assert ask("axo train one.yaml --learning-rate 1e-4 --smo", cwd=tmp_path) == ["--smoke"]
    assert "constant_with_warmup" in ask("axo train one.yaml --lr-scheduler const", cwd=tmp_path)
    assert "--learning-rate" not in ask("axo doctor --", cwd=tmp_path), "doctor takes no recipe"


def test_zsh_and_fish_get_the_section_of_a_key_too(tmp_path: Path) -> None:
    (zsh,) = ask("axo train one.yaml --lear", cwd=tmp_path, shell="zsh")
    assert '"--learning-rate":"recipe key (optim)"' in zsh
    assert ask("axo train one.yaml --lear", cwd=tmp_path, shell="fish") == ["--learning-rate\trecipe key (optim)"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_that_axo_shows_works_in_bash(tmp_path: Path) -> None:
    script = f"""
        eval "$({AXO} --show-completion)"
        COMP_WORDS=(axo train one.yaml --lear); COMP_CWORD=3
        _axo_completion {AXO}; echo "${{COMPREPLY[@]}}"
    """
    answer = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert answer.stdout == "--learning-rate\n", answer.stderr


def test_keys_are_written_as_they_were_begun_and_switches_have_a_no() -> None:
    assert [option for option, _ in recipe_keys("--learning_r")] == ["--learning_rate"]
    assert [option for option, _ in recipe_keys("--learning-r")] == ["--learning-rate"]
    assert "--no-sample-packing" in [option for option, _ in recipe_keys("--no-sample")]
    assert [option for option, _ in recipe_keys("--no-learning")] == []


def test_a_switch_takes_true_or_false_and_a_number_nothing_that_is_known() -> None:
    assert words_of("--sample-packing", "") == ["true", "false"]
    assert words_of("--micro-batch-size", "") == []
    assert words_of("--no-such-key", "") == []


def test_folders_without_recipes_are_left_out_and_one_alone_is_entered(tmp_path: Path) -> None:
    for name in ("a/deep", "b", "empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a/deep/x.yaml", "b/y.yml", "top.yaml", ".hidden.yaml", "empty/z.txt"):
        (tmp_path / name).write_text("")
    here = f"{tmp_path}/"
    assert recipe_files(here) == [f"{here}a/", f"{here}b/", f"{here}top.yaml"]
    assert recipe_files(f"{here}a") == [f"{here}a/deep/x.yaml"]
    assert recipe_files(f"{here}none/") == [] == recipe_files(f"{here}e")
