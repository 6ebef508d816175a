"""Tells systemd how a service fares: sd_notify(3), a datagram to `NOTIFY_SOCKET`."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


def notify(*lines: str) -> bool:
    """Send `NAME=value` lines; return whether there is a service manager that took them."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place[:1] not in ("/", "@"):
        return False
    # A line's end in a value would begin another variable.
    message = "\n".join(" ".join(line.splitlines()) for line in lines)
    address = "\0" + place[1:] if place.startswith("@") else place
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message.encode(errors="replace"), address)
        return True
    return False


def reloading() -> bool:
    """Tell that the configuration is being read again; `READY=1` follows when it was."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_seconds() -> float | None:
    """Return how often the service manager wants a sign of life at least; None: not at all."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6 or None
