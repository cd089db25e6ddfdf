# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: scapy's ways to send and receive work on a device, against DPDK's vhost that answers pings."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import testpmd
import vuser
from needs import need, need_module

need_module("scapy")

from scapy.config import conf  # noqa: E402
from scapy.layers.inet import ICMP, IP  # noqa: E402
from scapy.layers.l2 import ARP, Ether  # noqa: E402
from scapy.packet import Packet  # noqa: E402
from scapy.sendrecv import AsyncSniffer, bridge_and_sniff, sendp, sniff  # noqa: E402
from vuser.scapy import VuserSocket  # noqa: E402

conf.verb = 0
OURS, THEIRS = "02:00:00:00:00:05", "02:00:00:00:00:09"
LIMIT = 60.0


def echo(number: int) -> Packet:
    return Ether(src=OURS, dst=THEIRS) / IP(src="192.0.2.2", dst="192.0.2.1") / ICMP(id=7, seq=number) / b"vuser"


def who_has(number: int) -> Packet:
    return Ether(src=OURS) / ARP(hwsrc=OURS, psrc="192.0.2.2", pdst=f"192.0.2.{number}")


@pytest.fixture(scope="module")
def answering() -> Iterator[Path]:
    """A vhost device of DPDK's that answers pings and ARP."""
    need("dpdk-testpmd (apt-get install dpdk-dev)", testpmd.program())
    with testpmd.Testpmd("icmpecho") as pmd:
        yield pmd.path


@pytest.fixture(params=[0, 1])
def sock(request: pytest.FixtureRequest, answering: Path) -> Iterator[VuserSocket]:
    with VuserSocket(f"path={answering},packed_vq={request.param}") as sock:
        yield sock


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many questions: all of scapy's time is its own, so fewer on the second layout."""
    return 200 if request.node.callspec.params["sock"] else 1000


def started(sniffer: AsyncSniffer) -> AsyncSniffer:
    sniffer.start()
    deadline = time.monotonic() + LIMIT
    while not getattr(sniffer, "continue_sniff", False):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return sniffer


def test_sr1_gets_every_answer(sock: VuserSocket, count: int) -> None:
    for number in range(count):
        answer = sock.sr1(echo(number), timeout=LIMIT)
        assert answer is not None and answer[ICMP].type == 0 and answer[ICMP].seq == number


def test_sr_gets_every_answer(sock: VuserSocket, count: int) -> None:
    answered, unanswered = sock.sr([echo(number) for number in range(count)], timeout=LIMIT)
    assert (len(answered), len(unanswered)) == (count, 0)
    assert all(query[ICMP].seq == answer[ICMP].seq for query, answer in answered)


def test_sniff(sock: VuserSocket) -> None:
    timer = threading.Timer(0.05, lambda: sendp([who_has(k) for k in range(1, 51)], socket=sock))
    timer.start()
    packets = sniff(opened_socket=sock, count=50, timeout=LIMIT, lfilter=lambda packet: ARP in packet)
    timer.join()
    assert [packet[ARP].psrc for packet in packets] == [f"192.0.2.{k}" for k in range(1, 51)]


def test_async_sniffer(sock: VuserSocket) -> None:
    sniffer = started(AsyncSniffer(opened_socket=sock, count=50))
    sendp([who_has(k) for k in range(1, 51)], socket=sock)
    sniffer.join(LIMIT)
    assert len(sniffer.results or ()) == 50
    # One that waits for ever is stopped while nothing comes.
    sniffer, begin = started(AsyncSniffer(opened_socket=sock)), time.monotonic()
    assert not sniffer.stop()
    assert time.monotonic() - begin < LIMIT


def test_two_devices_are_bridged(tmp_path: Path, answering: Path) -> None:
    """A device that asks, one that echoes what it hears back, and scapy in between."""
    with vuser.Loopback(str(tmp_path / "sink"), mode="sink") as sink, VuserSocket(f"path={tmp_path / 'sink'}") as left, \
            VuserSocket(f"path={answering}") as right:
        done = threading.Event()

        def run() -> None:
            # Of its two sockets scapy says that they are names; its documentation and code know better.
            bridge_and_sniff(left, right, store=False, stop_filter=lambda _: done.is_set(), timeout=LIMIT)  # type: ignore[arg-type]

        thread = threading.Thread(target=run)
        thread.start()
        try:
            sendp([who_has(k) for k in range(1, 101)], socket=right)
            deadline = time.monotonic() + LIMIT
            while sink.stats().received < 100:
                assert time.monotonic() < deadline, sink.stats()
                time.sleep(0.001)
        finally:
            done.set()
            # Something to be asked about whether to stop.
            sendp(who_has(200), socket=right)
            thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_device_of_the_caller_stays_open(tmp_path: Path) -> None:
    with vuser.Loopback(str(tmp_path / "echo")), vuser.Device(f"path={tmp_path / 'echo'}") as device:
        for _ in range(2):
            with VuserSocket(device) as sock:
                sent = who_has(1)
                sendp(sent, socket=sock)
                assert bytes(sock.sniff(count=1, timeout=LIMIT)[0])[:42] == bytes(sent)[:42]
            # Whoever still asks it is told, and scapy lets go of it.
            assert sniff(opened_socket=sock, timeout=LIMIT) is not None
            with pytest.raises(EOFError):
                sock.recv()
        assert not device.closed


def test_a_full_ring_is_told(tmp_path: Path) -> None:
    loopback = vuser.Loopback(str(tmp_path / "echo"))
    with VuserSocket(f"path={tmp_path / 'echo'}") as sock:
        loopback.close()
        deadline = time.monotonic() + LIMIT
        while sock.send(who_has(1)):
            assert time.monotonic() < deadline
        assert sock.select([sock], 0.01) == [] or sock.recv() is not None


def test_a_descriptor_above_1023(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need("1200 open files", hard == resource.RLIM_INFINITY or hard >= 1200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    taken = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while taken[-1] < 1024:
            taken.append(os.dup(taken[0]))
        with vuser.Loopback(str(tmp_path / "echo")), VuserSocket(f"path={tmp_path / 'echo'}") as sock:
            assert sock.fileno() > 1023
            assert VuserSocket.select([sock], 0.01) == []
            sendp(who_has(1), socket=sock)
            assert sock.sniff(count=1, timeout=LIMIT)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
