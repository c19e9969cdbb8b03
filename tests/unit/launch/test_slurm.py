"""The sbatch file: what it asks of SLURM, what it runs, and that nothing in it is read as shell that is not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from axo.errors import LaunchError
from axo.launch.slurm import SlurmJob, slurm_script, submit

TWO = SlurmJob(nodes=2, gpus_per_node=8)


def run_script(script: str, folder: Path, **commands: str) -> subprocess.Popen[str]:
    """The script under bash, with these shell texts in the place of SLURM's programs."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name, text in commands.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin_folder / name).chmod(0o755)
    (folder / "job.sh").write_text(script)
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}
    return subprocess.Popen(
        ["bash", folder / "job.sh"], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_the_job_is_one_axo_on_each_node_with_all_of_its_gpus(tmp_path: Path) -> None:
    script = slurm_script(TWO, arguments=["r.yaml"], folder=tmp_path)
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {"nodes=2", "ntasks-per-node=1", "gpus-per-node=8", "requeue", "signal=TERM@300"} <= set(asked)
    assert script.count("srun ") == 1
    assert "--ntasks-per-node=1" in script and "axo train r.yaml\n" in script


def test_bash_reads_every_word_as_it_was_given(tmp_path: Path) -> None:
    words = ["a b.yaml", "--output-dir", 'it\'s $HOME `x` "y"', "--set", "datasets.0.path=*;rm -rf x"]
    job = SlurmJob(nodes=1, gpus_per_node=None, environment={"A": "$(false) 'q'"}, setup=["B=set"])
    folder = tmp_path / "with space's"
    folder.mkdir()
    run = run_script(
        slurm_script(job, arguments=words, folder=folder), tmp_path,
        srun='while [[ "$1" == --* ]]; do shift; done; printf "%s\\n" "$PWD" "$A" "$@"',
    )  # fmt: skip
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (0, "")
    assert out.splitlines() == [str(folder), "$(false) 'q'", "axo", "train", *words]


def test_a_setup_that_fails_ends_the_job_before_it_trains(tmp_path: Path) -> None:
    job = SlurmJob(nodes=1, gpus_per_node=1, setup=["source no/such/venv"])
    run = run_script(slurm_script(job, arguments=["r.yaml"], folder=tmp_path), tmp_path, srun="echo trained")
    assert "trained" not in run.communicate(timeout=20)[0]
    assert run.returncode != 0


@pytest.mark.parametrize("code", [0, 7, 75, 137])
@pytest.mark.parametrize("requeue", [True, False])
def test_only_a_run_that_saved_and_stopped_is_queued_again(tmp_path: Path, code: int, requeue: bool) -> None:
    job = SlurmJob(nodes=2, gpus_per_node=8, requeue=requeue)
    script = slurm_script(job, arguments=["r.yaml"], folder=tmp_path)
    run = run_script(script, tmp_path, srun=f"exit {code}", scontrol='echo "$@" > scontrol.log')
    run.communicate(timeout=20)
    assert run.returncode == code
    queued = tmp_path / "scontrol.log"
    assert (queued.read_text() if queued.exists() else "") == ("requeue 4711\n" if requeue and code == 75 else "")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (SlurmJob(1, 1, partition="a b"), "--partition is 'a b'"),
        (SlurmJob(1, 1, account="x\n#SBATCH --nodes=9"), "--account is"),
        (SlurmJob(1, 1, time="1 day"), "--time is '1 day', expected minutes, MM:SS"),
        (SlurmJob(1, 1, log='"'), "--log is"),
        (SlurmJob(1, 1, environment={"A-B": "1"}), "--env 'A-B' is no name"),
    ],
)
def test_what_sbatch_would_misread_is_refused(job: SlurmJob, expected: str) -> None:
    with pytest.raises(LaunchError) as raised:
        slurm_script(job, arguments=["r.yaml"], folder=Path("/"))
    assert expected in raised.value.message


def test_the_number_of_a_submitted_job_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/bash\ncat > {tmp_path}/got; echo '815;cluster'\n")
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert submit("#!/bin/bash\n") == "815"
    assert (tmp_path / "got").read_text() == "#!/bin/bash\n"
    sbatch.write_text("#!/bin/bash\necho 'invalid partition' >&2; exit 1\n")
    with pytest.raises(LaunchError, match="sbatch refused the job: invalid partition"):
        submit("")


def test_without_sbatch_a_file_can_still_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LaunchError, match="sbatch is not here"):
        submit("")
