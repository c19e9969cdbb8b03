"""The sbatch file that runs one `axo train` on each node of a SLURM job, and its submission."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from axo.errors import LaunchError

WAIT_SECONDS = 300
"""How long the tasks of other nodes may go on after the first one has ended."""


@dataclass(frozen=True)
class SlurmJob:
    """What is asked of SLURM. Names and values are those of sbatch's options."""

    nodes: int
    gpus_per_node: int | None
    """None: nodes without GPUs."""
    job_name: str = "axo"
    partition: str | None = None
    account: str | None = None
    time: str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    log: str = "%x-%j.out"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Exported before axo is started."""
    setup: Sequence[str] = ()
    """Lines of shell that come first, such as `source venv/bin/activate`."""
    grace_seconds: int = 300
    """How long before its end the job is told, so that it saves a checkpoint."""
    requeue: bool = True


def slurm_script(job: SlurmJob, *, arguments: Sequence[str], folder: Path) -> str:
    """The text of the file. `arguments` are those of `axo train`; `folder` is where it runs.

    Raises LaunchError for what sbatch would misread."""
    command = f"{_srun(job)} axo train {shlex.join(arguments)}"
    exports = [f"export {_name(name)}={shlex.quote(value)}" for name, value in job.environment.items()]
    parts = [
        "#!/bin/bash",
        *(f"#SBATCH --{option}" for option in _options(job)),
        "",
        f"cd {shlex.quote(str(folder))} || exit 1",
        *(["set -e", *job.setup, "set +e"] if job.setup else []),
        *exports,
        "",
        _WATCHED.replace("COMMAND", command).replace("AFTER", _REQUEUE if job.requeue else ""),
    ]
    return "\n".join(parts)


def submit(script: str) -> str:
    """Hand the script to sbatch; the job's number. Raises LaunchError where it refuses."""
    if shutil.which("sbatch") is None:
        raise LaunchError("sbatch is not here: this machine cannot submit SLURM jobs", "write the file with --output")
    answer = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise LaunchError(f"sbatch refused the job: {answer.stderr.strip() or answer.stdout.strip()}")
    return answer.stdout.strip().partition(";")[0]  # JOB;CLUSTER where there are several clusters


_WATCHED = """\
# SLURM signals the step and not this script, shortly before the time is over or the job is preempted: axo then finishes
# its training step, saves a checkpoint and ends with 75.
COMMAND
code=$?
AFTERexit "$code"
"""
_REQUEUE = """\
if [ "$code" -eq 75 ]; then
  echo "saved; the job goes on from there when it is started again" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
"""


def _options(job: SlurmJob) -> Iterator[str]:
    """Of sbatch. One task a node, which is an axo; it starts the workers."""
    words = {
        "job-name": job.job_name,
        "partition": job.partition,
        "account": job.account,
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": job.gpus_per_node,
        "cpus-per-task": job.cpus_per_task,
        "mem": job.mem,
        "time": job.time,
        "output": job.log,
    }
    yield from (f"{option}={_word(option, value)}" for option, value in words.items() if value is not None)
    yield "open-mode=append"  # a job that is started again goes on in the same file
    # Without B: it goes to axo on every node. srun itself must not get it: it would kill the step
    # (src/srun/libsrun/srun_job.c: "forcing job termination").
    yield f"signal=TERM@{job.grace_seconds}"
    yield "requeue" if job.requeue else "no-requeue"


def _srun(job: SlurmJob) -> str:
    """The one step: srun does not take cpus-per-task over by itself (since SLURM 22.05). A node that fails tells the
    others through axo; what is left over then ends after a while."""
    words = [f"--nodes={job.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0", f"--wait={WAIT_SECONDS}"]
    if job.cpus_per_task is not None:
        words.append(f"--cpus-per-task={job.cpus_per_task}")
    return " ".join(["srun", *words])


def _word(option: str, value: object) -> str:
    """sbatch reads its comments word by word."""
    text = str(value)
    pattern = _TIME if option == "time" else _WORD
    if not pattern.fullmatch(text):
        expected = "minutes, MM:SS, HH:MM:SS or D-HH:MM:SS" if option == "time" else "a word without spaces or quotes"
        raise LaunchError(f"--{'log' if option == 'output' else option} is {text!r}, expected {expected}")
    return text


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise LaunchError(f"--env {name!r} is no name of a variable", "write --env NAME=VALUE")
    return name


_WORD = re.compile(r"[\w.,%:+=/@\[\]-]+")
_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")
