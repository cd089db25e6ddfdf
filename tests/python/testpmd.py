# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""DPDK's ``dpdk-testpmd``, started and talked to, without huge pages and, if we are root, as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

PROMPT = "testpmd> "


def ordinary_user() -> list[str]:
    """What makes a command run as one."""
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []


def program() -> str | None:
    """Where it is."""
    return shutil.which("dpdk-testpmd", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin:/sbin")


class Testpmd:
    """A running testpmd whose vhost device listens at ``path``; ends with the ``with`` block."""

    __test__ = False

    def __init__(self, forward: str, devargs: str = "") -> None:
        # Not pytest's folder, which other users can't enter: the socket, and files of DPDK's.
        self._directory = tempfile.TemporaryDirectory(prefix="vuser-testpmd-")
        directory = Path(self._directory.name)
        directory.chmod(0o777)
        self.path = directory / "vhost.sock"
        self._log = ""
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        self._process = subprocess.Popen(
            [*ordinary_user(), "stdbuf", "-oL", program() or "dpdk-testpmd", "--no-huge", "-m", "256", "--no-pci",
             "--no-telemetry", f"--file-prefix=vuser-py-{os.getpid()}", f"--lcores=0@({cpus}),1@({cpus})",
             "--vdev", f"net_vhost0,iface={self.path}{devargs}", "--", "--interactive", "--nb-cores=1",
             "--total-num-mbufs=8192", "--no-flush-rx", f"--forward-mode={forward}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "RUNTIME_DIRECTORY": str(directory), "HOME": str(directory)})
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Testpmd:
        try:
            self._wait_for(0, PROMPT, 30)
            self.command("start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._write("quit")
            self._process.wait(10)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    def command(self, line: str) -> str:
        """What it prints until the next prompt."""
        mark = len(self._log)
        self._write(line)
        self._wait_for(mark, PROMPT, 20)
        return self._log[mark:]

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def _wait_for(self, mark: int, text: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while text not in self._log[mark:]:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"testpmd does not say {text!r}:\n{self._log}")
            time.sleep(0.002)

    def _read(self) -> None:
        assert self._process.stdout is not None
        while True:
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                return
            self._log += data.decode(errors="replace")
