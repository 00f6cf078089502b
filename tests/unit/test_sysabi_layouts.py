"""Numbers and layouts per architecture, written out from the kernel's headers."""

import struct

import pytest

from supervisord_pidfd import sysabi

# Keys: machine as uname has it, bits of a pointer, size of a long double.
# Values: the numbers of waitid, pidfd_send_signal, pidfd_open and close_range from asm/unistd.h;
# the offsets of si_code, si_pid and si_status from asm-generic's and MIPS' asm/siginfo.h; the
# offset of ru_maxrss in struct rusage and its size from linux/resource.h.
KNOWN = {
    ("x86_64", 64, 16): (247, 424, 434, 436, 8, 16, 24, 32, 144),
    ("aarch64", 64, 16): (95, 424, 434, 436, 8, 16, 24, 32, 144),
    ("aarch64_be", 64, 16): (95, 424, 434, 436, 8, 16, 24, 32, 144),
    ("riscv64", 64, 16): (95, 424, 434, 436, 8, 16, 24, 32, 144),
    ("loongarch64", 64, 16): (95, 424, 434, 436, 8, 16, 24, 32, 144),
    ("ppc64le", 64, 16): (272, 424, 434, 436, 8, 16, 24, 32, 144),
    ("ppc64", 64, 16): (272, 424, 434, 436, 8, 16, 24, 32, 144),
    ("s390x", 64, 16): (281, 424, 434, 436, 8, 16, 24, 32, 144),
    ("mips64", 64, 16): (5237, 5424, 5434, 5436, 4, 16, 24, 32, 144),
    ("i386", 32, 12): (284, 424, 434, 436, 8, 12, 20, 16, 72),
    ("i686", 32, 12): (284, 424, 434, 436, 8, 12, 20, 16, 72),
    ("armv7l", 32, 8): (280, 424, 434, 436, 8, 12, 20, 16, 72),
    ("armv6l", 32, 8): (280, 424, 434, 436, 8, 12, 20, 16, 72),
    ("mips", 32, 8): (4278, 4424, 4434, 4436, 4, 12, 20, 16, 72),
    # a 32-bit interpreter on a 64-bit kernel: uname speaks of the kernel
    ("x86_64", 32, 12): (284, 424, 434, 436, 8, 12, 20, 16, 72),
    ("aarch64", 32, 8): (280, 424, 434, 436, 8, 12, 20, 16, 72),
    ("armv8l", 32, 8): (280, 424, 434, 436, 8, 12, 20, 16, 72),
    ("mips64", 32, 8): (4278, 4424, 4434, 4436, 4, 12, 20, 16, 72),
    ("mips64", 32, 16): (6241, 6424, 6434, 6436, 4, 12, 20, 16, 72),  # n32
    # a 64-bit interpreter under setarch(8), which changes uname's word only
    ("i686", 64, 16): (247, 424, 434, 436, 8, 16, 24, 32, 144),
    ("armv8l", 64, 16): (95, 424, 434, 436, 8, 16, 24, 32, 144),
    ("mips", 64, 16): (5237, 5424, 5434, 5436, 4, 16, 24, 32, 144),
}

UNKNOWN = [
    ("x86_64", 32, 16),  # x32: its numbers have a bit of their own
    ("riscv64", 32, 16),
    ("loongarch64", 32, 16),
    ("ppc64", 32, 16),
    ("ppc", 32, 16),
    ("s390x", 32, 16),
    ("alpha", 64, 16),
    ("sparc64", 64, 16),
    ("vax", 32, 8),
    ("", 64, 16),
]


@pytest.mark.parametrize(("machine", "expected"), KNOWN.items(), ids=str)
def test_numbers_and_offsets_are_those_of_the_kernel_headers(machine, expected):
    assert sysabi.syscall_table(*machine) == expected


@pytest.mark.parametrize("machine", UNKNOWN, ids=str)
def test_a_machine_without_a_row_has_no_table(machine):
    assert sysabi.syscall_table(*machine) is None


def test_word_size_alone_finds_the_usual_abi():
    assert sysabi.syscall_table("x86_64", 64) == sysabi.syscall_table("x86_64", 64, 16)
    assert sysabi.syscall_table("mips", 32) == sysabi.syscall_table("mips", 32, 8)


def test_buffers_are_as_large_as_what_the_kernel_writes():
    assert sysabi.SIGINFO_SIZE == 128
    assert len(sysabi._siginfo) * 4 == 128
    assert sysabi._rusage.nbytes == 18 * struct.calcsize("l")


def test_idtypes_codes_and_flags_are_those_of_the_kernel_headers():
    assert (sysabi.P_ALL, sysabi.P_PID, sysabi.P_PIDFD) == (0, 1, 3)
    assert (sysabi.CLD_EXITED, sysabi.CLD_KILLED, sysabi.CLD_DUMPED) == (1, 2, 3)
    assert (
        sysabi.PIDFD_SIGNAL_THREAD,
        sysabi.PIDFD_SIGNAL_THREAD_GROUP,
        sysabi.PIDFD_SIGNAL_PROCESS_GROUP,
    ) == (1, 2, 4)


@pytest.mark.parametrize(
    ("read", "write", "direction_at"),
    [(2, 1, 30), (2, 4, 29)],
    ids=["asm-generic", "mips and powerpc"],
)
def test_the_ioctl_number_is_the_same_by_both_encodings(read, write, direction_at):
    number = (read | write) << direction_at | 64 << 16 | 0xFF << 8 | 11

    assert number == sysabi._PIDFD_GET_INFO


def test_pidfd_info_is_its_first_version():
    # linux/pidfd.h: mask 0, cgroupid 8, pid 16, ..., exit_code 60, end 64
    data = bytearray(64)
    data[0:8] = struct.pack("=Q", 9)
    data[16:20] = struct.pack("=I", 4711)
    data[60:64] = struct.pack("=i", 42 << 8)

    fields = sysabi._PIDFD_INFO.unpack(data)

    assert (fields[0], fields[2], fields[13]) == (9, 4711, 42 << 8)
    assert (sysabi._INFO_PID, sysabi._INFO_EXIT) == (1, 8)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, (1, 0)),
        (42 << 8, (1, 42)),
        (255 << 8, (1, 255)),
        (9, (2, 9)),
        (6 | 0x80, (3, 6)),
        (64, (2, 64)),
    ],
)
def test_a_wait_status_becomes_code_and_value(status, expected):
    assert sysabi._decode(status) == expected
