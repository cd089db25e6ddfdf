# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""A host with one IPv4 address on a device: it resolves, answers, pings, and asks for its address by DHCP.

It is what ``vuser ping``, ``vuser dhcp`` and the example ``unprivileged_ping`` are made of, and enough to try a network with.
It has no TCP, no routing but a gateway, and no fragments.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING, Callable, TypeVar, Union

from . import net
from ._waiting import wait

if TYPE_CHECKING:
    from ._device import Device

T = TypeVar("T")
Address = Union[str, IPv4Address]

# How long a question may go unanswered before it is asked again: doubled each time.
_FIRST_PAUSE = 0.5
# The longest single wait, so that a device that is stopped meanwhile is noticed.
_LONGEST_WAIT = 0.25
# Anybody may claim to be a neighbour.
_MOST_NEIGHBOURS = 4096


@dataclass(frozen=True)
class Lease:
    """What a DHCP server has given us."""

    address: IPv4Interface
    router: IPv4Address | None
    dns: list[IPv4Address]
    server: IPv4Address | None
    seconds: int | None
    mtu: int | None


@dataclass(frozen=True)
class Answer:
    """What came back for an echo request, and after how many seconds."""

    source: IPv4Address
    sequence: int
    size: int
    ttl: int
    seconds: float


class NoAnswer(TimeoutError):
    """Nobody answered in time; the text says to what."""


class Host:
    """One IPv4 address on a queue pair of a device, for one thread.

    ``address`` is like ``192.0.2.2/24``; without one, ``dhcp()`` asks for it. Frames are only looked at while a call of
    this class waits; requests of others for our address are answered then.
    """

    def __init__(self, device: Device, address: None | str | IPv4Interface = None,
                 gateway: Address | None = None, *, queue: int = 0) -> None:
        self._rx, self._tx = device.rx[queue], device.tx[queue]
        self.mac: bytes = bytes.fromhex(device.mac.replace(":", ""))
        self.address = IPv4Interface(address) if address is not None else None
        self.gateway = IPv4Address(gateway) if gateway is not None else None
        self._neighbours: dict[IPv4Address, bytes] = {}
        self._ident = secrets.randbelow(1 << 16)
        self._sequence = 0
        self._port = 49152 + secrets.randbelow(16384)

    # What users call.

    def dhcp(self, timeout: float = 10.0) -> Lease:
        """Gets an address, and uses it from then on."""
        deadline, xid = time.monotonic() + timeout, secrets.randbits(32)
        offer = self._ask_dhcp(net.Dhcp.DISCOVER, xid, {}, (net.Dhcp.OFFER,), deadline)
        chosen = {net.Dhcp.ADDRESS: offer.offered.packed}
        if net.Dhcp.SERVER in offer.options:
            chosen[net.Dhcp.SERVER] = offer.options[net.Dhcp.SERVER]
        reply = self._ask_dhcp(net.Dhcp.REQUEST, xid, chosen, (net.Dhcp.ACK, net.Dhcp.NAK), deadline)
        if reply.kind == net.Dhcp.NAK:
            raise NoAnswer(f"the DHCP server offered {offer.offered} and then refused it")
        mask = reply.address(net.Dhcp.MASK) or IPv4Address("255.255.255.255")
        try:
            self.address = IPv4Interface(f"{reply.offered}/{mask}")
        except ValueError:
            raise NoAnswer(f"the DHCP server gave {reply.offered} with {mask}, which is no netmask") from None
        self.gateway = reply.address(net.Dhcp.ROUTER)
        servers = reply.options.get(net.Dhcp.DNS, b"")
        return Lease(self.address, self.gateway,
                     [IPv4Address(servers[at:at + 4]) for at in range(0, len(servers) // 4 * 4, 4)],
                     reply.address(net.Dhcp.SERVER), reply.number(net.Dhcp.LEASE_TIME), reply.number(net.Dhcp.MTU))

    def resolve(self, address: Address, timeout: float = 3.0) -> bytes:
        """The MAC address of a neighbour, asked for by ARP if it isn't known yet."""
        address, ours = IPv4Address(address), self._ours()
        question = net.Arp(1, self.mac, ours.ip, bytes(6), address)
        return self._repeat(lambda: self._send(net.BROADCAST, net.ETHERTYPE_ARP, question.pack()),
                            lambda: self._neighbours.get(address), time.monotonic() + timeout,
                            f"nobody says that {address} is there (ARP)")

    def ping(self, address: Address, timeout: float = 3.0, *, size: int = 56) -> Answer:
        """Sends one echo request and waits for its answer."""
        address, deadline = IPv4Address(address), time.monotonic() + timeout
        mac = self.resolve(self._next_hop(address), timeout)
        self._sequence = self._sequence % 0xFFFF + 1
        request = net.Echo(net.Echo.REQUEST, self._ident, self._sequence, bytes(k & 0xFF for k in range(size)))
        begin = time.perf_counter()
        self._send_ip(mac, address, net.PROTOCOL_ICMP, request.pack())

        def answer(packet: net.Ipv4) -> Answer | None:
            echo = net.Echo.parse(packet.payload) if packet.protocol == net.PROTOCOL_ICMP else None
            wanted = (address, net.Echo.REPLY, self._ident, request.sequence)
            if not echo or (packet.src, echo.kind, echo.ident, echo.sequence) != wanted:
                return None
            return Answer(packet.src, echo.sequence, len(echo.payload), packet.ttl, time.perf_counter() - begin)

        return self._await(answer, deadline, f"{address} does not answer")

    def udp(self, address: Address, port: int, payload: bytes, timeout: float = 3.0) -> bytes:
        """Sends a datagram, and again until there is an answer; its payload."""
        address, deadline = IPv4Address(address), time.monotonic() + timeout
        mac, source = self.resolve(self._next_hop(address), timeout), self._ours().ip
        self._port = 49152 + (self._port - 49151) % 16384
        data = net.Udp(self._port, port, payload).pack(source, address)

        def answer(packet: net.Ipv4) -> bytes | None:
            datagram = net.Udp.parse(packet)
            if not datagram or (packet.src, datagram.src_port, datagram.dst_port) != (address, port, self._port):
                return None
            return datagram.payload

        return self._ask(lambda: self._send_ip(mac, address, net.PROTOCOL_UDP, data), answer, deadline,
                         f"nobody answers at {address}, UDP port {port}")

    def serve(self, seconds: float) -> None:
        """Answers requests for our address for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._receive(deadline)

    # Questions and their answers.

    def _ours(self) -> IPv4Interface:
        if self.address is None:
            raise ValueError("this host has no address yet: give one, or call dhcp()")
        return self.address

    def _next_hop(self, address: IPv4Address) -> IPv4Address:
        if address in self._ours().network:
            return address
        if self.gateway is None:
            raise ValueError(f"{address} is not in {self._ours().network}, and there is no gateway to send it to")
        return self.gateway

    def _ask_dhcp(self, kind: int, xid: int, chosen: dict[int, bytes], wanted: tuple[int, ...],
                  deadline: float) -> net.Dhcp:
        options = {net.Dhcp.TYPE: bytes((kind,)), **chosen,
                   net.Dhcp.PARAMETERS: bytes((net.Dhcp.MASK, net.Dhcp.ROUTER, net.Dhcp.DNS, net.Dhcp.MTU,
                                               net.Dhcp.LEASE_TIME))}
        data = net.Udp(net.Dhcp.CLIENT_PORT, net.Dhcp.SERVER_PORT, net.Dhcp(1, xid, self.mac, options).pack())
        packet = net.Ipv4(net.NOBODY, net.EVERYBODY, net.PROTOCOL_UDP, data.pack(net.NOBODY, net.EVERYBODY))

        def answer(packet: net.Ipv4) -> net.Dhcp | None:
            datagram = net.Udp.parse(packet)
            if not datagram or datagram.dst_port != net.Dhcp.CLIENT_PORT:
                return None
            message = net.Dhcp.parse(datagram.payload)
            ours = message and (message.op, message.xid, message.mac) == (2, xid, self.mac)
            return message if message and ours and message.kind in wanted else None

        return self._ask(lambda: self._send(net.BROADCAST, net.ETHERTYPE_IPV4, packet.pack()), answer, deadline,
                         "no DHCP server answers")

    def _ask(self, send: Callable[[], None], answer: Callable[[net.Ipv4], T | None], deadline: float,
             text: str) -> T:
        """Sends, and again after growing pauses, until there is an answer among the packets for us."""
        pause = _FIRST_PAUSE
        while True:
            send()
            until = min(time.monotonic() + pause, deadline)
            try:
                return self._await(answer, until, text)
            except NoAnswer:
                if until >= deadline:
                    raise
            pause *= 2

    def _repeat(self, send: Callable[[], None], known: Callable[[], T | None], deadline: float, text: str) -> T:
        """The same for what is not in a packet but known of itself when it comes."""
        pause, again = _FIRST_PAUSE, 0.0
        while True:
            value = known()
            if value is not None:
                return value
            now = time.monotonic()
            if now >= deadline:
                raise NoAnswer(text)
            if now >= again:
                send()
                again, pause = now + pause, pause * 2
            self._receive(min(again, deadline))

    def _await(self, answer: Callable[[net.Ipv4], T | None], deadline: float, text: str) -> T:
        while True:
            for packet in self._receive(deadline):
                found = answer(packet)
                if found is not None:
                    return found
            if time.monotonic() >= deadline:
                raise NoAnswer(text)

    # Frames.

    def _receive(self, deadline: float) -> list[net.Ipv4]:
        """Waits for frames; the packets for us among them. What others want of us is answered."""
        frames = self._rx.burst(64)
        if not frames:
            left = min(max(deadline - time.monotonic(), 0.0), _LONGEST_WAIT)
            wait(self._rx, left)
            frames = self._rx.burst(64)
        packets = []
        for data in [bytes(frame) for frame in frames]:
            frame = net.Ethernet.parse(data)
            if not frame or frame.dst not in (self.mac, net.BROADCAST):
                continue
            if frame.ethertype == net.ETHERTYPE_ARP:
                self._arp(net.Arp.parse(frame.payload))
            elif frame.ethertype == net.ETHERTYPE_IPV4:
                packet = net.Ipv4.parse(frame.payload)
                if packet and self._is_for_us(packet) and not self._answer_echo(frame, packet):
                    packets.append(packet)
        return packets

    def _is_for_us(self, packet: net.Ipv4) -> bool:
        # Without an address, what is sent to any is an offer of one.
        return self.address is None or packet.dst in (self.address.ip, net.EVERYBODY)

    def _arp(self, arp: net.Arp | None) -> None:
        if arp is None:
            return
        ours = self.address.ip if self.address else None
        if arp.target == ours and len(self._neighbours) < _MOST_NEIGHBOURS:
            self._neighbours[arp.sender] = arp.sender_mac
        if arp.operation == 1 and ours is not None and arp.target == ours:
            reply = net.Arp(2, self.mac, ours, arp.sender_mac, arp.sender)
            self._send(arp.sender_mac, net.ETHERTYPE_ARP, reply.pack())

    def _answer_echo(self, frame: net.Ethernet, packet: net.Ipv4) -> bool:
        if packet.protocol != net.PROTOCOL_ICMP or self.address is None or packet.dst != self.address.ip:
            return False
        echo = net.Echo.parse(packet.payload)
        if not echo or echo.kind != net.Echo.REQUEST:
            return False
        reply = net.Echo(net.Echo.REPLY, echo.ident, echo.sequence, echo.payload)
        self._send_ip(frame.src, packet.src, net.PROTOCOL_ICMP, reply.pack())
        return True

    def _send_ip(self, mac: bytes, address: IPv4Address, protocol: int, payload: bytes) -> None:
        self._send(mac, net.ETHERTYPE_IPV4, net.Ipv4(self._ours().ip, address, protocol, payload).pack())

    def _send(self, mac: bytes, ethertype: int, payload: bytes) -> None:
        # A full ring drops it, as any network may: whoever waits for an answer asks again.
        self._tx.burst([net.Ethernet(mac, self.mac, ethertype, payload).pack()])
