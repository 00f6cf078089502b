"""The shipped systemd units are accepted by systemd itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit, tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # The program is installed elsewhere during tests, and verify looks for it.
    installed = re.sub(r"/usr/bin/(supervisord-pidfd|pidfdctl)", "/bin/true", unit.read_text())
    copy = tmp_path / unit.name
    copy.write_text(installed)

    run = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stdout + run.stderr) == (0, "")
