# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""virtio-user as a library: drive a virtio-net device over vhost-user from Python.

    import vuser

    with vuser.Device(path="/tmp/vhost.sock") as device:
        for packet in device.rx[0].burst():
            print(bytes(packet).hex())

What a call does is said in full in vuser.h; this package adds lifetimes: nothing here crashes when it is used after its
end, but raises ClosedError.
"""

from ._abi import *  # noqa: F403
from ._capture import Capture
from ._config import Config
from ._device import Device
from ._errors import ClosedError, DeadlineError, Error, NotFoundError, NotPermittedError, RefusedError
from ._library import path as library_path
from ._library import version as library_version
from ._log import TRACE, set_log
from ._loopback import Loopback
from ._memory import DirtyLog
from ._pool import Packet, Pool
from ._queue import Queue, RxQueue, TxQueue
from ._stats import (
    CaptureStats,
    DeviceInfo,
    DeviceStats,
    Event,
    EventKind,
    Feature,
    LoopbackStats,
    QueueStats,
    RssLimits,
)

__version__ = library_version()

__all__ = [
    "TRACE",
    "Capture",
    "CaptureStats",
    "ClosedError",
    "Config",
    "DeadlineError",
    "Device",
    "DeviceInfo",
    "DeviceStats",
    "DirtyLog",
    "Error",
    "Event",
    "EventKind",
    "Feature",
    "Loopback",
    "LoopbackStats",
    "NotFoundError",
    "NotPermittedError",
    "Packet",
    "Pool",
    "Queue",
    "QueueStats",
    "RefusedError",
    "RssLimits",
    "RxQueue",
    "TxQueue",
    "__version__",
    "library_path",
    "library_version",
    "set_log",
]
