# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Nothing is used after its end: an exception says so, and memory that is looked at is there."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import vuser
from conftest import ROOT, frame, receive, until
from vuser import _queue


def run(code: str) -> str:
    """What a program of its own prints; it must end well."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "bindings" / "python"), PYTHONFAULTHANDLER="1")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.stdout


def sleeps(thread: threading.Thread) -> bool:
    """Whether the kernel holds a thread, and not just for the moment."""
    for _ in range(20):
        time.sleep(0.001)
        stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        if stat.rpartition(")")[2].split()[0] != "S":
            return False
    return True


def test_a_packet_after_its_end(device: vuser.Device) -> None:
    packet = device.pool.packet(frame(1))
    view = packet.data
    packet.free()
    packet.free()
    assert not packet
    for use in (
        lambda: packet.data,
        lambda: len(packet),
        lambda: bytes(packet),
        lambda: packet.flags,
        lambda: packet.append(b""),
    ):
        with pytest.raises(vuser.ClosedError):
            use()
    with pytest.raises(ValueError):
        view[0]
    with pytest.raises(vuser.ClosedError):
        device.tx[0].burst([packet])


def test_a_packet_that_was_sent(device: vuser.Device) -> None:
    packet = device.pool.packet(frame(1))
    view = packet.data
    assert device.tx[0].burst([packet]) == 1
    with pytest.raises(ValueError):
        view[0]
    with pytest.raises(vuser.ClosedError):
        device.tx[0].burst([packet])
    with pytest.raises(ValueError):
        device.tx[0].burst([packet, packet])
    twice = device.pool.packet(frame(2))
    with pytest.raises(ValueError):
        device.tx[0].burst([twice, twice])
    assert bytes(twice) == frame(2)


def test_packets_that_are_dropped_come_back(device: vuser.Device) -> None:
    free = device.pool.available
    packets = [device.pool.packet(frame(i)) for i in range(500)]
    assert device.pool.available <= free - 500
    del packets
    gc.collect()
    assert device.pool.available == free
    for _ in range(200):
        device.tx[0].burst([frame(1)] * 100)
        receive(device.rx[0], 100)


def test_a_packet_that_is_being_written_somewhere(device: vuser.Device) -> None:
    """A thread that the kernel holds looks at the packet: it can't be freed under it."""
    for drop in (False, True):
        packet = device.pool.packet(frame(7))
        free = device.pool.available
        inlet, outlet = os.pipe()
        os.set_blocking(outlet, False)
        full = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                full += os.write(outlet, bytes(4096))
        os.set_blocking(outlet, True)
        thread = threading.Thread(target=os.write, args=(outlet, packet.data))
        thread.start()
        until(functools.partial(sleeps, thread))
        if drop:
            del packet
            gc.collect()
        else:
            with pytest.raises(BufferError):
                packet.free()
            with pytest.raises(BufferError):
                device.tx[0].burst([packet])
        assert device.pool.available == free
        while full:
            full -= len(os.read(inlet, full))
        assert os.read(inlet, 100) == frame(7)
        thread.join(60)
        if not drop:
            packet.free()
        assert device.pool.available == free + 1
        os.close(inlet)
        os.close(outlet)


def test_a_pool_ends_with_the_last_that_looks_at_it() -> None:
    pool = vuser.Pool(64, huge=False)
    packet = pool.packet(frame(3))
    piece = packet.data[14:22]
    pool.close()
    pool.close()
    with pytest.raises(vuser.ClosedError):
        pool.alloc()
    assert bytes(packet) == frame(3)
    del pool, packet
    gc.collect()
    # Its bytes may be another's now; they are there all the same.
    assert len(bytes(piece)) == 8


def test_an_empty_pool() -> None:
    with vuser.Pool(64, huge=False) as pool:
        packets = pool.alloc(64)
        with pytest.raises(MemoryError):
            pool.alloc()
        del packets
        assert len(pool.alloc(64)) == 64
        with pytest.raises(ValueError):
            pool.alloc(-1)
    with pytest.raises(ValueError):
        vuser.Pool(64, data_size=1 << 16)


def test_a_device_after_its_end() -> None:
    device = vuser.Device(path="loopback")
    rx, tx = device.rx[0], device.tx[0]
    with pytest.raises(vuser.ClosedError):
        rx.burst()
    device.start()
    pool = device.pool
    assert tx.burst([frame(1)]) == 1
    (packet,) = receive(rx, 1)
    device.close()
    device.close()
    assert device.closed
    assert bytes(packet) == frame(1)
    for use in (
        rx.burst, rx.fd, rx.arm, rx.wait, rx.stats, rx.check, rx.count, rx.stop, tx.cleanup, device.start, device.stop,
        device.setup, device.events, device.features, device.fd, lambda: device.info, lambda: device.link,
        lambda: tx.burst([packet]), lambda: tx.burst([b"x" * 64]), lambda: tx.burst_from(b"", b"", b""),
        lambda: rx.burst_into(bytearray(1), bytearray(4), bytearray(4)), lambda: tx.prepare([packet]),
    ):  # fmt: skip
        with pytest.raises(vuser.ClosedError):
            use()
    assert bytes(packet) == frame(1)
    assert bytes(pool.packet(b"still there")) == b"still there"


def test_a_child_leaves_a_queue_alone_whose_device_was_dropped() -> None:
    assert run(
        """
        import os, vuser
        device = vuser.Device(path="loopback")
        device.start()
        rx = device.rx[0]
        del device
        if os.fork() == 0:
            try: rx.burst()
            except vuser.ClosedError: os._exit(0)
            os._exit(1)
        print(os.wait()[1], rx.burst())
        """
    ) == "0 []\n"  # fmt: skip


def test_a_device_that_is_dropped() -> None:
    device = vuser.Device(path="loopback")
    device.start()
    rx = device.rx[0]
    del device
    gc.collect()
    assert rx.burst() == []
    with vuser.Device(path="loopback") as other:
        assert other.link


def test_it_is_stopped_and_started(device: vuser.Device) -> None:
    for number in range(3):
        assert device.tx[0].burst([frame(number)]) == 1
        assert bytes(receive(device.rx[0], 1)[0]) == frame(number)
        device.stop()
        assert device.rx[0].burst() == []
        packet = device.pool.packet(frame(9))
        assert device.tx[0].burst([packet]) == 0
        assert bytes(packet) == frame(9)
        with pytest.raises(vuser.Error):
            device.rx[0].check()
        device.start()


def test_closing_while_others_work() -> None:
    for _ in range(5):
        device = vuser.Device(path="loopback", queues=2)
        device.start()
        ended: list[BaseException | None] = []

        def work(device: vuser.Device, pair: int, wait: bool, ended: list[BaseException | None]) -> None:
            try:
                while True:
                    device.tx[pair].burst([frame(1)] * 8)
                    if wait:
                        device.rx[pair].wait()
                    device.rx[pair].burst()
                    device.stats()
            except BaseException:
                ended.append(sys.exc_info()[1])

        arguments = [(device, i % 2, i > 1, ended) for i in range(4)]
        threads = [threading.Thread(target=work, args=a, daemon=True) for a in arguments]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        device.close()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert [type(error) for error in ended] == [vuser.ClosedError] * 4


def test_packets_that_two_threads_free_and_send() -> None:
    with vuser.Device(path="loopback", mode="sink") as device:
        pool = device.pool
        for _ in range(300):
            packets = [pool.packet(frame(i)) for i in range(32)]

            def send(packets: list[vuser.Packet] = packets) -> None:
                for packet in packets:
                    with contextlib.suppress(vuser.ClosedError):
                        device.tx[0].burst([packet])

            thread = threading.Thread(target=send)
            thread.start()
            for packet in reversed(packets):
                packet.free()
            thread.join(60)
            assert not any(packets)
        device.stop()
        assert pool.available == pool.count


def test_a_child_leaves_its_parents_device_alone(device: vuser.Device, tmp_path: Path) -> None:
    pool, packet = device.pool, device.pool.packet(frame(5))
    with vuser.Loopback(tmp_path / "s") as server:
        pid = os.fork()
        if pid == 0:
            wrong = 1
            try:
                for use in (device.rx[0].burst, device.start, lambda: device.info, pool.alloc, server.stats):
                    try:
                        use()
                    except vuser.ClosedError:
                        continue
                    os._exit(2)
                packet.free()
                server.close()
                device.close()
                with vuser.Device(path="loopback") as own:
                    own.tx[0].burst([frame(6)])
                    wrong = bytes(receive(own.rx[0], 1)[0]) != frame(6)
            finally:
                os._exit(wrong)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert bytes(packet) == frame(5)
        assert device.tx[0].burst([packet]) == 1
        assert bytes(receive(device.rx[0], 1)[0]) == frame(5)
        with vuser.Device(path=server.path) as client:
            assert client.link


def test_the_interpreter_ends_with_all_of_it_alive() -> None:
    assert run(
        """
        import logging, threading, vuser
        logging.basicConfig(level=5)
        vuser.set_log(5)
        device = vuser.Device(path="loopback")
        device.start()
        device.tx[0].burst([bytes(64)] * 100)
        device.rx[0].wait(1)
        packets = device.rx[0].burst()
        views = [p.data for p in packets]
        class Cycle: pass
        cycle = Cycle(); cycle.me, cycle.device, cycle.packets = cycle, device, packets
        def forever():
            try:
                while True: device.rx[0].burst()
            except vuser.ClosedError: pass
        def control():
            try:
                while True: device.stats(); device.info
            except vuser.ClosedError: pass
        for work in (forever, forever, control): threading.Thread(target=work, daemon=True).start()
        left = vuser.Device(path="loopback").rx[0]
        print("end")
        """
    ) == "end\n"  # fmt: skip


def test_objects_go_in_any_order() -> None:
    assert run(
        """
        import gc, itertools, vuser
        gc.disable()
        for order in itertools.permutations(range(4)):
            pool = vuser.Pool(1024, huge=False)
            device = vuser.Device(path="loopback", pool=pool)
            device.start()
            device.tx[0].burst([bytes(64)])
            device.rx[0].wait(1)
            things = [pool, device, device.rx[0], device.rx[0].burst()]
            things[3].append(things[3][0].data[3:])
            del pool, device
            for place in order: things[place] = None
        gc.collect()
        print("end")
        """
    ) == "end\n"  # fmt: skip


def test_a_cycle_may_use_at_its_end_what_ends_with_it() -> None:
    assert run(
        """
        import gc, threading, vuser
        kept = []
        class Node:
            def __del__(self):
                for packet in self.packets: len(packet), packet.data[0], bytes(packet.data)
                self.pool.packet(bytes(64))
                if self.device: self.device.rx[0].burst(), self.device.info
                if self.keep: kept.append(self.pool.alloc(1)[0])
        for keep in (False, True):
            for _ in range(3):
                node = Node(); node.me, node.keep, node.device = node, keep, None
                node.pool = vuser.Pool(64, huge=False)
                node.packets = node.pool.packets([bytes(64)] * 4)
                del node
                gc.collect()
                node = Node(); node.me, node.keep = node, keep
                node.device = vuser.Device(path="loopback"); node.device.start()
                node.pool, node.packets = node.device.pool, node.device.pool.packets([bytes(64)] * 4)
                del node
                gc.collect()
        for packet in kept: packet.append(b"there"); assert bytes(packet) == b"there"
        del packet
        kept.clear()
        gc.collect()
        from vuser import _process
        print("end", len(_process._owned), len(_process._late))
        """
    ) == "end 0 0\n"  # fmt: skip


def test_a_device_ends_on_no_thread_of_the_librarys(tmp_path: Path) -> None:
    """The log is told on the device's own thread, and the collector may come there."""
    assert run(
        f"""
        import gc, logging, threading, time, vuser
        ended = threading.Event()
        class Handler(logging.Handler):
            def emit(self, record):
                global node
                if threading.get_native_id() != main and node is not None:
                    node = None
                    gc.collect()
                    ended.set()
        main, node = threading.get_native_id(), None
        logging.getLogger("vuser").addHandler(Handler()); logging.getLogger("vuser").setLevel(1)
        gc.disable()
        server = vuser.Loopback({str(tmp_path / "s")!r})
        device = vuser.Device(path=server.path, reconnect=1, reconnect_ms=20)
        device.start()
        class Node: pass
        node = Node(); node.me, node.device = node, device
        del device
        vuser.set_log(5)
        server.close()
        print(ended.wait(20))
        vuser.set_log(None)
        from vuser import _process
        assert _process._late
        with vuser.Device(path="loopback"): assert not _process._late
        """
    ) == "True\n"  # fmt: skip


def test_a_back_end_goes_with_the_interpreter(tmp_path: Path) -> None:
    path = tmp_path / "s"
    run(f"import vuser; server = vuser.Loopback({str(path)!r}); device = vuser.Device(path=server.path); device.start()")
    assert not path.exists()


def test_a_signal_handler_that_closes() -> None:
    assert run(
        """
        import errno, signal, threading, time, vuser
        from vuser import _queue
        begin = time.monotonic()
        seen = []
        def close(*_):
            try: device.close(); seen.append("closing")
            except vuser.Error as error: seen.append(error.errno == errno.EDEADLK)
        signal.signal(signal.SIGALRM, close)
        # In the middle of a control call: it ends with that call.
        device = vuser.Device(path="loopback"); device.start()
        with device._core:
            with device._core: signal.raise_signal(signal.SIGALRM)
            assert device.closed and device.rx[0]._handle
        assert not device.rx[0]._handle
        try: device.info
        except vuser.ClosedError: print(seen)
        # In the middle of a burst: it can't.
        real = _queue._tx_burst
        def interrupted(*arguments):
            signal.raise_signal(signal.SIGALRM)
            return real(*arguments)
        device = vuser.Device(path="loopback"); device.start()
        _queue._tx_burst = interrupted
        print(device.tx[0].burst([bytes(64)]), seen)
        def send(*_):
            try: device.tx[0].burst([bytes(64)])
            except vuser.Error as error: seen.append(error.errno == errno.EDEADLK)
        signal.signal(signal.SIGALRM, send)
        print(device.tx[0].burst([bytes(64)]), seen)
        _queue._tx_burst = real
        print(device.tx[0].burst([bytes(64)]))
        # While it waits for other threads to end: it stays open.
        def stop(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, stop)
        go, held = threading.Event(), threading.Event()
        def hold():
            with device._core: held.set(); go.wait(20)
        thread = threading.Thread(target=hold); thread.start(); held.wait(20)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try: device.close()
        except KeyboardInterrupt: print("open" if device.info.status else "")
        go.set(); thread.join(20)
        device.close()
        print(device.closed, time.monotonic() - begin < 120)
        """
    ) == "['closing']\n1 ['closing', True]\n1 ['closing', True, True]\n1\nopen\nTrue True\n"  # fmt: skip


def test_a_burst_that_a_signal_handler_ends(device: vuser.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    rx, tx, pool = device.rx[0], device.tx[0], device.pool
    made: list[vuser.Packet] = []

    def make(pool: vuser.Pool, m: int) -> vuser.Packet:
        made.append(vuser.Packet(pool, m))
        if len(made) == 3:
            raise KeyboardInterrupt
        return made[-1]

    assert tx.burst([frame(i) for i in range(8)]) == 8
    until(lambda: rx.count() == 8)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_queue, "Packet", make)
        rx.burst()
    assert len(pool._dropped) == 5
    made.clear()
    gc.collect()
    # Another thread is in the queue: nothing is sent yet.
    packet, go = pool.packet(frame(9)), threading.Event()

    def hold() -> None:
        with tx._lock:
            held.set()
            go.wait(20)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    held, thread, before = threading.Event(), threading.Thread(target=hold), signal.signal(signal.SIGALRM, stop)
    thread.start()
    try:
        assert held.wait(20)
        for what in ([packet], [frame(9)]):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                tx.burst(what)
    finally:
        signal.signal(signal.SIGALRM, before)
        go.set()
        thread.join(20)
    assert bytes(packet) == frame(9)
    assert tx.burst([packet]) == 1
    assert bytes(receive(rx, 1)[0]) == frame(9)
    device.stop()
    assert pool.available == pool.count


def test_children_of_a_parent_that_logs() -> None:
    assert run(
        """
        import logging, os, threading, time, vuser
        class Slow(logging.Logger):
            def log(self, *_): time.sleep(0.0005)
        vuser.set_log(5, Slow("slow"))
        done = False
        def work():
            while not done:
                with vuser.Device(path="loopback"): pass
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        ended = 0
        for _ in range(20):
            child = os.fork()
            if not child:
                vuser.set_log(None)
                os._exit(0)
            deadline = time.monotonic() + 20
            while not (waited := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline: time.sleep(0.002)
            if not waited[0]: os.kill(child, 9); os.waitpid(child, 0); break
            ended += 1
        done = True
        for thread in threads: thread.join(20)
        print(ended)
        """
    ) == "20\n"  # fmt: skip


def test_a_signal_handler_in_the_middle_of_anything() -> None:
    assert run(
        """
        import signal, vuser
        device = vuser.Device(path="loopback")
        device.start()
        signal.signal(signal.SIGALRM, lambda *_: device.events())
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        for _ in range(2000):
            device.tx[0].burst([bytes(64)] * 8); device.rx[0].burst(); device.stats()
        signal.setitimer(signal.ITIMER_REAL, 0)
        def stop(*_): raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, stop)
        while device.rx[0].burst() or device.rx[0].wait(0.1): pass
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try: device.rx[0].wait()
        except KeyboardInterrupt: print("interrupted")
        device.close()
        print("end")
        """
    ) == "interrupted\nend\n"  # fmt: skip


def test_nothing_leaks(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once(number: int) -> None:
        with vuser.Loopback(tmp_path / f"s{number}") as server, vuser.Device(path=server.path) as device:
            device.tx[0].burst([frame(number)])
            receive(device.rx[0], 1)

    once(0)
    gc.collect()
    before = descriptors()
    for number in range(1, 6):
        once(number)
    gc.collect()
    until(lambda: descriptors() <= before)
