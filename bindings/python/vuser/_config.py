# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""What a device shall be."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Union

from . import _abi
from ._errors import check
from ._library import lib

Option = Union[str, bytes, int, bool, "os.PathLike[str]", None]


def _text(name: str, value: Option) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes):
        return ":".join(f"{b:02x}" for b in value) if name == "mac" else os.fsdecode(value)
    if name == "socket_mode" and isinstance(value, int):
        return f"{value:04o}"
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


class Config:
    """What a device shall be: ``Config("path=/tmp/vhost.sock,queues=2")``, ``Config(path="/tmp/vhost.sock", queues=2)``.

    The options are those of DPDK's net_virtio_user and vuser's own; vuser.h lists them at vuser_config_parse. Switches
    take True and False, ``mac`` text or six bytes, ``socket_mode`` text in octal or a number (0o660). None leaves an
    option as it is. The fields of struct vuser_config can be read as attributes.
    """

    def __init__(self, text: str = "", **options: Option) -> None:
        self._struct = _abi.vuser_config()
        check(lib.vuser_config_init(ctypes.byref(self._struct), ctypes.sizeof(self._struct)))
        self.update(text, **options)

    def update(self, text: str = "", **options: Option) -> None:
        """Sets options; nothing changes unless all of them are right."""
        given = {name: _text(name, value) for name, value in options.items() if value is not None}
        both = ",".join([text, *(f"{n}={v}" for n, v in given.items() if n != "path" or "," not in v)]).strip(",")
        if "\0" in both:
            raise ValueError("an option has a zero byte in it")
        new = _abi.vuser_config.from_buffer_copy(self._struct)
        check(lib.vuser_config_parse(ctypes.byref(new), both.encode("utf-8", "surrogateescape")))
        path = given.get("path", "")
        if "," in path:  # A path with a comma can't be written as text.
            raw = os.fsencode(path)
            if len(raw) >= _abi.vuser_config.path.size:
                raise ValueError(f"path has {len(raw)} bytes, more than {_abi.vuser_config.path.size - 1}")
            new.path = raw
        self._struct = new

    @property
    def path(self) -> str:
        """Where the back-end is."""
        return os.fsdecode(self._struct.path)

    def copy(self) -> Config:
        """Another one with the same options."""
        new = Config()
        new._struct = _abi.vuser_config.from_buffer_copy(self._struct)
        return new

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._struct, name)
        if isinstance(value, bytes):
            return os.fsdecode(value)
        return bytes(value) if name == "mac" else value

    def __repr__(self) -> str:
        return f"<vuser.Config path={self.path!r} queues={self.queues} queue_size={self.queue_size}>"
