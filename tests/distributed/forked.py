"""Runs a function on several ranks that are forked from this process: like started ones, without their imports."""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from pathlib import Path

PATIENCE_SECONDS = 100


def run_ranks(world_size: int, work: Callable[[int], None], *, log: Path) -> None:
    """Call `work(rank)` on each rank, in the environment that a launcher gives; raises what they printed where one
    fails, and where they hang."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = [_start(rank, world_size, port, work, log.with_suffix(f".{rank}")) for rank in range(world_size)]
    deadline, codes = time.monotonic() + PATIENCE_SECONDS, dict[int, int]()
    while len(codes) < world_size and time.monotonic() < deadline and not any(codes.values()):
        for pid in set(pids) - set(codes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    for pid in set(pids) - set(codes):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if len(codes) < world_size or any(codes.values()):
        said = "\n".join(log.with_suffix(f".{rank}").read_text() for rank in range(world_size))
        raise AssertionError(f"ranks ended with {[codes.get(pid, 'a hang') for pid in pids]}\n{said}")


def _start(rank: int, world_size: int, port: int, work: Callable[[int], None], log: Path) -> int:
    log.touch()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        import torch

        torch.set_num_threads(1)
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        work(rank)
        code = 0
    except BaseException:
        with log.open("a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)
