"""Machines switched on and off from outside: through their BMC, or by a magic packet.

In: a host's `spec.power` and what to do. Out: what the BMC says, "on" or "off", or an error grouped by remedy. Passwords come
from the vault when they are needed and travel on a child's standard input. Nothing here decides when to switch.
"""

from __future__ import annotations

from controller.power.control import PowerControl

__all__ = ["PowerControl"]
