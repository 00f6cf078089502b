"""Load a configuration in the test's own process, as the config child would."""

import json
import os
from pathlib import Path
from typing import Any

from supervisord_pidfd.config.child import CHANNEL_VERSION, Reply, Request, parse_reply
from supervisord_pidfd.config.load import load

ROOT = Path(__file__).parents[2]


def request_for(file: Path | None, **members: Any) -> Request:
    """Make a request for a file, by a daemon that was started beside it."""
    usual: dict[str, Any] = {
        "uid": os.getuid(), "pid1": False, "max_files": 20_000,
        "start_dir": str(file.parent if file else Path("/")),
    }  # fmt: skip
    return Request(file=None if file is None else str(file), **{**usual, **members})


def load_file(file: Path | None, **members: Any) -> Reply:
    """Load through everything but the fork: JSON there and back included."""
    plain = load(request_for(file, **members))
    return parse_reply(json.dumps({"version": CHANNEL_VERSION, **plain}).encode())


def load_text(folder: Path, text: str | bytes, **members: Any) -> Reply:
    """Write `main.toml` into a folder, and load it."""
    file = folder / "main.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_file(file, **members)
