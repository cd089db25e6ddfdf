# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Configurations, errors, what is known of a device, events, the log."""

from __future__ import annotations

import errno
import logging
import re
import select
import stat
from pathlib import Path

import pytest
import vuser
from conftest import frame, receive, until
from vuser import _abi


def test_options_as_text_and_as_keywords() -> None:
    one = vuser.Config("path=/tmp/s,queues=2,packed_vq=1,mac=02:00:00:00:00:07")
    two = vuser.Config(path=Path("/tmp/s"), queues=2, packed_vq=True, mac=b"\2\0\0\0\0\7")
    for name, *_ in _abi.vuser_config._fields_:
        ours, theirs = getattr(one, name), getattr(two, name)
        assert ours == theirs, name
    three = one.copy()
    three.update("queues=3", packed_vq=None)
    assert (one.queues, three.queues, three.packed_vq) == (2, 3, 1)
    assert vuser.Config(path="/tmp/a,b").path == "/tmp/a,b"
    assert vuser.Config(path="/tmp/s", server=True, socket_mode=0o660).socket_mode == 0o660


def test_every_option_of_the_library_is_one_here() -> None:
    with pytest.raises(vuser.Error) as error:
        vuser.Config(nonsense=1)
    assert error.value.errno == errno.EINVAL
    names = re.findall(r"there are: (.*)", error.value.strerror or "")[0].split(", ")
    assert len(names) > 30
    values: dict[str, str | int] = {
        "path": "/tmp/s", "mac": "02:00:00:00:00:01", "iface": "x", "mode": "sink", "simd": "scalar", "events": "manual",
        "mtu": 1400, "socket_mode": "0600", "speed": 10000,
    }  # fmt: skip
    for name in names:
        given: dict[str, str | int] = {name: values.get(name, 128 if name.endswith("_ms") or "size" in name else 1)}
        vuser.Config("", **given)


def test_what_can_not_be_as_text() -> None:
    for wrong in ({"path": "/tmp/\0"}, {"path": "/tmp/" + "x" * 300}, {"path": "," * 300}):
        with pytest.raises((ValueError, vuser.Error)):
            vuser.Config("", **wrong)
    with pytest.raises(AttributeError):
        _ = vuser.Config().nonsense


def test_errors_have_the_librarys_sentence(tmp_path: Path) -> None:
    with pytest.raises(vuser.NotFoundError, match="nothing") as error:
        vuser.Device(path=tmp_path / "nothing")
    assert isinstance(error.value, (FileNotFoundError, vuser.Error, OSError))
    assert error.value.errno == errno.ENOENT
    with pytest.raises(vuser.DeadlineError):
        vuser.Device(path=tmp_path / "s", server=True, server_wait_ms=10)
    with pytest.raises(vuser.Error, match="path is missing"):
        vuser.Device()


def test_what_is_known() -> None:
    with vuser.Device("path=loopback,queues=2", packed_vq=True, mac="02:00:00:00:00:09") as device:
        info = device.info
        assert (info.queue_pairs, info.packed, info.mac, info.link_up) == (2, True, "02:00:00:00:00:09", True)
        assert device.status & vuser.VUSER_STATUS_DRIVER_OK
        features = {f.name: f for f in device.features()}
        assert features["ring_packed"].used if "ring_packed" in features else features["packed"].used
        assert {f.kind for f in features.values()} == {"virtio", "protocol"}
        assert len(device.stats().rx) == len(device.stats().tx) == 2
        device.set_mac(b"\2\0\0\0\0\5")
        assert device.mac == "02:00:00:00:00:05"
        device.set_mtu(1400)
        assert device.mtu == 1400
        for wrong in (device.set_mtu, device.set_queue_pairs):
            with pytest.raises(ValueError):
                wrong(1 << 16)
        with pytest.raises(ValueError):
            device.set_mac("02:00")
        device.rx[1].stop()
        device.rx[1].start()
        device.tx[0].burst([frame(1)])
        until(lambda: device.rx[0].count() + device.rx[1].count())
        device.reset_stats()
        assert device.stats().tx_packets == 0


@pytest.mark.parametrize("events", ["thread", "manual"])
def test_events(tmp_path: Path, events: str) -> None:
    server = vuser.Loopback(tmp_path / "s")
    with vuser.Device(path=server.path, reconnect_ms=10, events=events) as device:
        server.close()
        happened: list[vuser.Event] = []

        def happens(kind: vuser.EventKind) -> bool:
            happened.extend(device.events(timeout=0.5))
            return kind in [event.kind for event in happened]

        assert select.select([device], [], [], 10)[0]
        until(lambda: happens(vuser.EventKind.LINK_DOWN))
        assert not device.link
        with vuser.Loopback(tmp_path / "s"):
            until(lambda: happens(vuser.EventKind.RECONNECTED))
            until(lambda: happens(vuser.EventKind.LINK_UP))
            device.tx[0].burst([frame(1)])
            assert bytes(receive(device.rx[0], 1)[0]) == frame(1)
        assert device.info.reconnects == 1
    assert vuser.EventKind(77).name == "KIND_77"


def test_a_server(tmp_path: Path) -> None:
    with vuser.Device(path=tmp_path / "s", server=True, socket_mode=0o600) as device:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
        assert not device.link
        assert device.events() == []
    assert not (tmp_path / "s").exists()


def test_a_back_end_of_ours(tmp_path: Path) -> None:
    with vuser.Loopback(tmp_path / "s", queues=2, frame=100, mode="source") as server:
        with vuser.Device(path=server.path, queues=2) as device:
            assert len(receive(device.rx[0], 10)[0]) == 100
        assert server.stats().sent >= 10
    with pytest.raises(vuser.ClosedError):
        server.stats()
    with pytest.raises(ValueError):
        vuser.Loopback("a,b")
    with pytest.raises(vuser.Error):
        vuser.Loopback(tmp_path / "t", mode="nonsense")


def test_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("test.vuser")
    with caplog.at_level(vuser.TRACE, "test.vuser"):
        vuser.set_log("DEBUG", logger)
        with vuser.Device(path="loopback"):
            pass
        vuser.set_log(None)
        assert {"INFO", "DEBUG"} <= {record.levelname for record in caplog.records}
        caplog.clear()
        with vuser.Device(path="loopback"):
            pass
        assert not caplog.records
    with pytest.raises(ValueError):
        vuser.set_log("nonsense")


def test_a_capture(device: vuser.Device, tmp_path: Path) -> None:
    with device.capture(tmp_path / "a.pcapng") as capture:
        with pytest.raises(vuser.Error, match="capture"):
            device.capture(tmp_path / "b.pcapng")
        device.tx[0].burst([frame(1, 100), frame(2)])
        receive(device.rx[0], 2)
        until(lambda: capture.stats().written == 4)
        assert (capture.stats().captured, capture.stats().dropped, capture.stats().bytes) == (4, 0, 328)
    capture.close()
    with pytest.raises(vuser.ClosedError):
        capture.stats()
    written = (tmp_path / "a.pcapng").read_bytes()
    assert written[:4] == b"\x0a\x0d\x0d\x0a"
    assert written.count(frame(1, 100)) == 2
    with open(tmp_path / "c.pcapng", "wb") as file, device.capture(file.fileno(), snaplen=20) as capture:
        device.tx[0].burst([frame(3)])
        until(lambda: capture.stats().written == 1)
    assert frame(3)[:20] in (tmp_path / "c.pcapng").read_bytes()
    assert frame(3) not in (tmp_path / "c.pcapng").read_bytes()
    for wrong in ("", "x" * 300, "a\0b"):
        with pytest.raises(ValueError):
            device.capture(wrong)
    with pytest.raises(ValueError):
        device.capture(tmp_path / "d", snaplen=-1)
    with pytest.raises(vuser.Error):
        device.capture(tmp_path / "no" / "such" / "folder")
    capture = device.capture(tmp_path / "e.pcapng")
    device.close()
    capture.close()
