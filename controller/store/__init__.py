"""What the controller remembers between passes: one SQLite file, one writer, every write durable before it counts."""

from __future__ import annotations

from controller.store.sqlite import PastPass, Remembered, Store, Trouble, record_of, status_of

__all__ = ["PastPass", "Remembered", "Store", "Trouble", "record_of", "status_of"]
