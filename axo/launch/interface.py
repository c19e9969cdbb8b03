"""The network interface that leads to another host."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Callable

SIOCGIFADDR = 0x8915
"""Address of an interface: netdevice(7), linux/sockios.h."""


def interface_of(host: str, addresses: Callable[[], dict[str, str]]) -> str | None:
    """Name of the network interface through which this host reaches another one; None: not known.

    gloo takes the address of the host's name otherwise, which on many systems is 127.0.1.1."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # nothing is sent
            own = probe.getsockname()[0]
    except OSError:
        return None
    return next((name for name, address in addresses().items() if address == own), None)


def interface_addresses() -> dict[str, str]:
    """IPv4 address of each network interface (Linux: SIOCGIFADDR of netdevice(7))."""
    found: dict[str, str] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, name.encode()[:15].ljust(256, b"\0"))
            except OSError:
                continue
            found[name] = socket.inet_ntoa(answer[20:24])
    return found
