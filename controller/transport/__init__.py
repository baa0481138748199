"""Talking to machines: one SSH connection and one long-lived shell per host and lane; nothing is installed there.

The story: an `Endpoint` says where a machine is and whose key it must show; a `Link` holds its connection and shells; a
`Shell` carries framed requests; a `Fence` guards what writes; the `Fleet` is all of them by name.
"""

from __future__ import annotations

from controller.transport.endpoint import Endpoint
from controller.transport.fence import Fence
from controller.transport.fleet import Fleet
from controller.transport.frames import Reply

__all__ = ["Endpoint", "Fence", "Fleet", "Reply"]
