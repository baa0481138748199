"""How the controller logs: lines for people or JSON for machines, on standard error.

Lines of libraries, which speak through Python's own logger, take the same form: with json every line is one object.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(form: str, level: str) -> None:
    """Set up once, at start."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=str)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: tuple[structlog.typing.Processor, ...] = (
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(structlog.stdlib.add_logger_name, *shared),
            processors=(structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer),
        )
    )
    # Libraries speak only when something is wrong; asyncssh names peers at info level.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for name in ("asyncssh", "apscheduler", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Ours are filtered above, by the level of the settings.
    logging.getLogger("controller").setLevel(logging.DEBUG)
    logging.captureWarnings(True)
