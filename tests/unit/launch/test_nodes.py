"""Parents of several nodes, as threads of one process: they meet, hear of each other, and notice who is missing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch.distributed import HashStore

from axo.errors import LaunchError
from axo.launch.failures import End
from axo.launch.interface import interface_addresses, interface_of
from axo.launch.link import Link
from axo.launch.meeting import Meeting
from axo.launch.stall import Position
from axo.launch.verdict import Verdict
from axo.plan.cluster import Cluster


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def meeting(endpoint: str, node: int, *, nodes: int = 2, workers: int = 1, seconds: float = 20) -> Meeting:
    return Meeting(Cluster(nodes, node, endpoint), workers=workers, join_seconds=seconds)


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What each gives or raises, all called at once."""
    found: list[Any] = [None] * len(calls)

    def run(number: int, call: Callable[[], Any]) -> None:
        try:
            found[number] = call()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number, call)) for number, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


def test_nodes_meet_keep_their_numbers_and_share_a_new_store_at_each_start() -> None:
    endpoint = free_endpoint()
    nodes = [meeting(endpoint, number, nodes=3) for number in (0, 1, 2)]
    together(*(node.open for node in nodes))
    assert [[card.node for card in node.cards] for node in nodes] == [[0, 1, 2]] * 3
    ports: set[int] = set()
    for start in (0, 1):
        infos = together(*(node.next_rendezvous for node in nodes))
        assert [(info.rank, info.world_size) for info in infos] == [(0, 3), (1, 3), (2, 3)]
        (address,) = {(i.bootstrap_store_info.master_addr, i.bootstrap_store_info.master_port) for i in infos}
        ports.add(address[1])
        assert [node.restarts for node in nodes] == [start] * 3
    assert len(ports) == 2


def test_a_node_that_does_not_come_is_named_with_those_that_did() -> None:
    endpoint = free_endpoint()
    nodes = [meeting(endpoint, number, nodes=3, seconds=1) for number in (0, 2)]
    for error in together(*(node.open for node in nodes)):
        assert isinstance(error, LaunchError)
        assert f"2 of 3 nodes came at {endpoint} within 1 s: node 0 (host {socket.gethostname()})" in error.message
        assert error.message.endswith("missing: 1")


def test_a_node_0_that_is_not_there_is_named_with_its_address() -> None:
    endpoint = free_endpoint()
    with pytest.raises(LaunchError, match=f"node 1 .* could not reach node 0 at {endpoint} within 1 s: .*refused"):
        meeting(endpoint, 1, seconds=1).open()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(LaunchError, match=r"node 0 .* cannot open port"):
            meeting(endpoint, 0).open()


def test_two_nodes_of_one_number_and_nodes_told_different_sizes_are_refused() -> None:
    endpoint = free_endpoint()
    first, second = meeting(endpoint, 0, nodes=3, seconds=1), meeting(endpoint, 1, nodes=3, seconds=1)
    twin = meeting(endpoint, 1, nodes=3, seconds=1)
    object.__setattr__(twin._card, "process", -1)
    errors = together(first.open, second.open, twin.open)
    assert any("two nodes of this run say that they are node 1" in str(error) for error in errors)

    endpoint = free_endpoint()
    for error in together(meeting(endpoint, 0, workers=2).open, meeting(endpoint, 1, workers=4).open):
        assert "node 1" in str(error) and "2 nodes with 4 workers each" in str(error) and "with 2" in str(error)


def test_an_endpoint_that_is_no_address_is_refused() -> None:
    with pytest.raises(LaunchError, match="'node0' is not host:port"):
        meeting("node0", 1)


def test_the_interface_towards_a_host_is_found() -> None:
    addresses = interface_addresses()
    assert addresses.get("lo") == "127.0.0.1"
    assert interface_of("127.0.0.1", lambda: addresses) == "lo"
    assert interface_of("127.0.0.1", dict) is None


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    store = HashStore()
    pair = (Link(store, node=0, num_nodes=2, lost_seconds=1.2), Link(store, node=1, num_nodes=2, lost_seconds=1.2))
    for link in pair:
        link.begin(0)
        link.start()
    yield pair
    for link in reversed(pair):
        link.close()


def await_true(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ends_and_positions_reach_node_0_and_its_verdict_reaches_all(links: tuple[Link, Link]) -> None:
    first, second = links
    end = End(3, "b", -9, "step 4 (update)", None, "trace")
    second.post_ends([end])
    await_true(lambda: first.all_ends() == [end])
    assert second.positions_asked_at is None
    first.ask_positions()
    await_true(lambda: second.positions_asked_at)
    here, there = Position(0, "a", 4, "counts", ("line",)), Position(1, "b", 4, "batches", ("one", "two"))
    first.post_positions([here])
    assert first.all_positions() == ([here], False)
    second.post_positions([there])
    await_true(lambda: first.all_positions() == ([here, there], True))
    verdict = Verdict(True, {"exit_code": 7, "message": "m", "hint": None}, "t", 3)
    first.decide(verdict)
    await_true(lambda: second.verdict == verdict)
    for link in links:
        link.begin(1)
    assert second.verdict is None and first.all_ends() == [] and second.positions_asked_at is None
    time.sleep(0.6)
    assert second.verdict is None and first.all_ends() == [], "what was said at a former start is not heard again"


def test_a_node_that_falls_silent_is_lost_to_the_others(links: tuple[Link, Link]) -> None:
    first, second = links
    time.sleep(0.6)
    assert first.lost() == second.lost() == []
    second._closing.set()
    await_true(lambda: first.lost() == [1])
    first._closing.set()
    await_true(lambda: second.lost() == [0])
