# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Promise: what the package packs is what others unpack, and nothing that comes from a network can raise."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import pytest
from vuser import net

A, B = IPv4Address("192.0.2.1"), IPv4Address("198.51.100.7")
MAC = bytes.fromhex("020000000001")


def frame(protocol: int, payload: bytes) -> bytes:
    return net.Ethernet(net.BROADCAST, MAC, net.ETHERTYPE_IPV4, net.Ipv4(A, B, protocol, payload).pack()).pack()


def test_what_is_packed_is_unpacked() -> None:
    for size in (0, 1, 18, 19, 1400):
        data = bytes(k & 255 for k in range(size))
        packet = net.Ipv4.parse(net.Ethernet.parse(frame(17, net.Udp(7, 9, data).pack(A, B))).payload)  # type: ignore[union-attr]
        assert packet and (packet.src, packet.dst) == (A, B)
        # The padding of short frames is not data.
        assert net.Udp.parse(packet) == net.Udp(7, 9, data)
        echo = net.Echo(net.Echo.REQUEST, 1, 2, data)
        assert net.Echo.parse(echo.pack()) == echo
    arp = net.Arp(1, MAC, A, bytes(6), B)
    assert net.Arp.parse(arp.pack()) == arp
    options = {net.Dhcp.TYPE: b"\2", net.Dhcp.MASK: bytes((255, 255, 255, 0)), net.Dhcp.DNS: A.packed + B.packed, net.Dhcp.MTU: b"\5\x78"}
    message = net.Dhcp(2, 77, MAC, options, A, B)
    assert net.Dhcp.parse(message.pack()) == message
    assert (message.kind, message.address(net.Dhcp.DNS), message.number(net.Dhcp.MTU)) == (net.Dhcp.OFFER, A, 1400)


def test_scapy_reads_it_the_same() -> None:
    layers = pytest.importorskip("scapy.layers.all")
    for payload in (b"", b"odd", b"even"):
        packet = layers.Ether(frame(17, net.Udp(68, 67, payload).pack(A, B)))
        again = layers.Ether(bytes(packet))
        for layer in (packet[layers.IP], packet[layers.UDP], again[layers.IP]):
            # Recomputed, the checksum is the same.
            before = layer.chksum
            del layer.chksum
            assert layer.__class__(bytes(layer)).chksum == before
    dhcp = net.Dhcp(1, 5, MAC, {net.Dhcp.TYPE: b"\1"})
    packet = layers.Ether(frame(17, net.Udp(68, 67, dhcp.pack()).pack(A, B)))
    assert ("message-type", 1) in packet[layers.DHCP].options and packet[layers.BOOTP].xid == 5
    packet = layers.Ether(net.Ethernet(MAC, MAC, net.ETHERTYPE_ARP, net.Arp(2, MAC, A, MAC, B).pack()).pack())
    assert (packet[layers.ARP].psrc, packet[layers.ARP].pdst, packet[layers.ARP].op) == (str(A), str(B), 2)


def test_wrong_checksums_are_noticed() -> None:
    good = bytearray(net.Ipv4(A, B, 17, net.Udp(7, 9, b"data").pack(A, B)).pack())
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        packet = net.Ipv4.parse(bytes(bad))
        assert packet is None or net.Udp.parse(packet) is None, at


def test_no_input_raises() -> None:
    chance = random.Random(1)
    seeds = [frame(1, net.Echo(8, 1, 2, b"x").pack()), frame(17, net.Udp(68, 67, net.Dhcp(2, 7, MAC, {53: b"\5"}).pack()).pack(A, B)),
             net.Ethernet(MAC, MAC, net.ETHERTYPE_ARP, net.Arp(1, MAC, A, MAC, B).pack()).pack()]
    for _ in range(20000):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[:chance.randrange(len(data) + 1)]
        for start in (0, 14, 34, 42):
            part = bytes(data[start:])
            for parse in (net.Ethernet.parse, net.Arp.parse, net.Ipv4.parse, net.Echo.parse, net.Dhcp.parse):
                parse(part)
            message = net.Dhcp.parse(part)
            if message:
                _ = message.kind, message.address(net.Dhcp.ROUTER), message.number(net.Dhcp.LEASE_TIME)
            packet = net.Ipv4.parse(part)
            if packet:
                net.Udp.parse(packet)
