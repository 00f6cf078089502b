"""`supervisord-pidfd version`: which program, on what, detecting exits how."""

import json
import os
import sys

from supervisord_pidfd import __version__, sysabi
from supervisord_pidfd.errors import UsageError


def main(words: list[str]) -> int:
    """Print the version and what it runs on; return 0.

    Raises:
        UsageError: A word other than `--json`.
    """
    if words not in ([], ["--json"]):
        raise UsageError(f"unknown word '{words[-1]}' for 'version'")
    features = sysabi.probe()
    facts = {
        "version": __version__,
        "python": sys.version.split()[0],
        "linux": os.uname().release,
        "reaper": "pidfd" if features.pidfd else "sigchld",
        "reaper_reason": features.reason,
    }
    text = (
        f"supervisord-pidfd {__version__} (python {facts['python']},"
        f" linux {facts['linux']}, reaper {facts['reaper']})"
    )
    sys.stdout.write((json.dumps({"format": 1, **facts}) if words else text) + "\n")
    return 0
