"""`pidfdctl` as it is installed beside the interpreter of the tests."""

import os
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path

COMMAND = Path(sysconfig.get_path("scripts")) / "pidfdctl"


def environment(**more: str) -> dict[str, str]:
    """Give an environment without anything of the user who runs the tests."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC", **more}


def pidfdctl(
    socket: Path | str, *words: str, env: Mapping[str, str] | None = None, timeout: float = 30
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; both outputs as text."""
    assert COMMAND.exists(), "pidfdctl is not installed: make setup"
    return subprocess.run(
        [COMMAND, "-s", str(socket), *words],
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
