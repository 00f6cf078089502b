"""What a fresh interpreter loads: the core is standard library only, and its quick part."""

import json
import subprocess
import sys

import pytest

SLOW = {
    "argparse", "asyncio", "concurrent", "dataclasses", "email", "http", "inspect", "logging",
    "pathlib", "pickle", "random", "subprocess", "threading", "tomllib", "urllib", "uuid",
}  # fmt: skip

LOADED_BY = """
import sys
before = set(sys.modules)
import {module}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(module):
    """Say what importing a module loads beyond what the interpreter had at its start."""
    program = LOADED_BY.format(module=module)
    run = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return set(json.loads(run.stdout))


def tops(modules):
    return {module.partition(".")[0] for module in modules}


def test_the_core_process_loads_nothing_third_party():
    loaded = tops(loaded_by("supervisord_pidfd.daemon, supervisord_pidfd.entry"))

    assert loaded - sys.stdlib_module_names == {"supervisord_pidfd"}


def test_the_core_process_loads_no_slow_part_of_the_standard_library():
    loaded = loaded_by("supervisord_pidfd.daemon, supervisord_pidfd.entry")

    assert tops(loaded) & SLOW == set()


def test_the_core_process_loads_neither_its_helpers_nor_the_model():
    loaded = loaded_by("supervisord_pidfd.daemon, supervisord_pidfd.entry")

    unwanted = {"logger", "gateway", "checker", "cli", "config.model"}
    assert loaded & {f"supervisord_pidfd.{name}" for name in unwanted} == set()


def test_the_core_process_compiles_nothing():
    """An annotation of a NamedTuple that is a string is compiled; the tables for it stay."""
    program = """
import typing
def compiled(self, text, *args, **kwargs):
    raise AssertionError(text)
typing.ForwardRef.__init__ = compiled
import supervisord_pidfd.daemon
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("helper", "libraries"),
    [
        ("logger", {"pydantic", "tomli", "prometheus_client", "h11"}),
        ("gateway", {"pydantic", "tomli", "structlog"}),
    ],
)
def test_a_helper_loads_no_library_of_another(helper, libraries):
    loaded = tops(loaded_by(f"supervisord_pidfd.{helper}.main"))

    assert loaded & libraries == set()


# What `status` needs; everything else is loaded by the verb that needs it.
OF_THE_CLIENT = {
    "cli", "cli.args", "cli.main", "cli.procfs", "cli.screen", "cli.session", "cli.status",
    "cli.verbs", "client", "clock", "config", "config.paths", "errors",
}  # fmt: skip


def test_the_control_client_loads_little():
    loaded = loaded_by("supervisord_pidfd.cli.main, supervisord_pidfd.cli.status")
    ours = {name for name in loaded if name.startswith("supervisord_pidfd.")}

    assert ours == {f"supervisord_pidfd.{name}" for name in OF_THE_CLIENT}
    assert tops(loaded) & SLOW == set()
    assert tops(loaded) - sys.stdlib_module_names == {"supervisord_pidfd"}
