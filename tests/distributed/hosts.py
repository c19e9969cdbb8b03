"""Two hosts on one machine: network namespaces with a virtual cable between them, each with a name of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMES = ("alpha", "beta")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29611


@dataclass(frozen=True)
class Hosts:
    """`spaces` are the names of the two network namespaces."""

    spaces: tuple[str, str]

    def start(
        self, number: int, words: Sequence[str], *, log: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Run a command on a host."""
        script = f'hostname {NAMES[number]}; exec "$@"'
        inside = ["ip", "netns", "exec", self.spaces[number], "unshare", "--uts", "sh", "-c", script, "sh", *words]
        with log.open("wb") as file:
            return subprocess.Popen(
                inside, stdout=file, stderr=file, env={**os.environ, **environment}, start_new_session=True
            )

    def cut(self, *, mended: bool = False) -> None:
        """Take the cable out, or put it in again."""
        _ip("-n", self.spaces[0], "link", "set", "cable", "up" if mended else "down")


def why_not() -> str | None:
    """What keeps this machine from having two hosts."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return "ip or unshare is not installed"
    name = f"axo-probe-{uuid.uuid4().hex[:6]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return None if made.returncode == 0 else f"ip netns add: {made.stderr.strip()}"


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Make them, and always remove them."""
    mark = uuid.uuid4().hex[:6]
    hosts = Hosts((f"axo-a-{mark}", f"axo-b-{mark}"))
    try:
        for space in hosts.spaces:
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
        first, second = hosts.spaces
        _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
        for space, address in zip(hosts.spaces, ADDRESSES, strict=True):
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", "cable")
            _ip("-n", space, "link", "set", "cable", "up")
        yield hosts
    finally:
        for space in hosts.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
