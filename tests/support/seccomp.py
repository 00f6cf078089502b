"""Run a command where the kernel calls we use fail, as on an old kernel or in a sandbox.

    seccomp.py RULES -- COMMAND [ARGUMENT...]

RULES is a preset, or CALL=ANSWER, or several with commas; a later one overrides.

calls     pidfd_open pidfd_send_signal pidfd_getfd close_range clone3 openat2
          waitid_pidfd (waitid with P_PIDFD only; other waits work)
answers   an errno by name (ENOSYS EPERM EACCES EINVAL EMFILE ...), SIGSYS (trap), KILL (the
          process), FAKE (return 0 and do nothing: a descriptor that was never opened), ALLOW
presets   kernel-4.19, kernel-5.3 (pidfd_open is there, waitid(P_PIDFD) is not),
          old-container (a container runtime's profile of 2019: no thread can start, either)

It is a real filter: needs no root, sets no_new_privs, is inherited by every descendant and cannot
be taken back. `install(RULES)` does the same to the calling process.
"""

import ctypes
import errno
import os
import struct
import sys

UNIVERSAL = {
    "pidfd_send_signal": 424,
    "pidfd_open": 434,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
}
MACHINES = {  # machine: audit architecture, number of waitid; both little-endian
    "x86_64": (0xC000003E, 247),
    "aarch64": (0xC00000B7, 95),
}
NEW_IN_5_9 = "close_range=ENOSYS,pidfd_getfd=ENOSYS,openat2=ENOSYS,waitid_pidfd=EINVAL"
PRESETS = {
    "kernel-4.19": "pidfd_send_signal=ENOSYS,pidfd_open=ENOSYS,clone3=ENOSYS," + NEW_IN_5_9,
    "kernel-5.3": NEW_IN_5_9,
    "old-container": "pidfd_send_signal=EPERM,pidfd_open=EPERM,clone3=EPERM",
}

# Instructions of classic BPF, see bpf(4); the data is struct seccomp_data of seccomp(2).
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT = 0, 4, 16
RET_KILL_PROCESS, RET_TRAP, RET_ERRNO, RET_ALLOW = 0x80000000, 0x00030000, 0x00050000, 0x7FFF0000
P_PIDFD = 3

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2


class RulesError(ValueError):
    """Say which rule or machine is not understood."""


def parse(rules):
    """Return the answer to each call named by the rules, presets expanded."""
    answers = {}
    for rule in rules.split(","):
        if rule in PRESETS:
            answers |= parse(PRESETS[rule])
            continue
        call, _, name = rule.partition("=")
        if call not in UNIVERSAL and call != "waitid_pidfd":
            raise RulesError(f"cannot filter {call!r}: neither a known call nor a preset")
        answers[call] = answer(name)
    return answers


def answer(name):
    """Return what the filter returns for an answer of the rules."""
    fixed = {"SIGSYS": RET_TRAP, "KILL": RET_KILL_PROCESS, "FAKE": RET_ERRNO, "ALLOW": RET_ALLOW}
    if name in fixed:
        return fixed[name]
    number = getattr(errno, name, None)
    if not name.startswith("E") or not isinstance(number, int):
        raise RulesError(f"cannot answer {name!r}: not an errno, SIGSYS, KILL, FAKE or ALLOW")
    return RET_ERRNO | number


def supported():
    """Tell whether filters can be made for this machine."""
    return os.uname().machine in MACHINES and struct.calcsize("P") == 8


def program(rules):
    """Return the filter as bytes, for seccomp(2) or for a runner that takes one."""
    machine = os.uname().machine
    if not supported():
        raise RulesError(f"cannot filter on {machine}: only on 64-bit {' and '.join(MACHINES)}")
    arch, waitid = MACHINES[machine]
    code = [
        (LOAD, 0, 0, ARCH_AT),
        (JUMP_IF_EQUAL, 1, 0, arch),
        (RETURN, 0, 0, RET_ALLOW),  # another architecture of the same kernel
        (LOAD, 0, 0, NUMBER_AT),
    ]
    for call, verdict in parse(rules).items():
        if call == "waitid_pidfd":
            code += [
                (JUMP_IF_EQUAL, 0, 4, waitid),
                (LOAD, 0, 0, FIRST_ARGUMENT_AT),  # the low word, all of an int
                (JUMP_IF_EQUAL, 0, 1, P_PIDFD),
                (RETURN, 0, 0, verdict),
                (LOAD, 0, 0, NUMBER_AT),
            ]
        else:
            code += [(JUMP_IF_EQUAL, 0, 1, UNIVERSAL[call]), (RETURN, 0, 0, verdict)]
    code.append((RETURN, 0, 0, RET_ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def install(rules):
    """Put the filter on this process and all it will start, for good."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    code = program(rules)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    fprog = Program(len(code) // 8, code)
    for option, value, pointer in (
        (PR_SET_NO_NEW_PRIVS, 1, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(fprog)),
    ):
        if prctl(option, value, pointer, 0, 0):
            failure = ctypes.get_errno()
            raise OSError(failure, f"cannot install the filter: {os.strerror(failure)}")


def main(arguments):
    if len(arguments) < 3 or arguments[1] != "--":
        sys.exit(__doc__)
    try:
        install(arguments[0])
        os.execvp(arguments[2], arguments[2:])
    except (RulesError, OSError) as failure:
        sys.exit(f"seccomp.py: {failure}")


if __name__ == "__main__":
    main(sys.argv[1:])
