"""Trace the process named by the argument; say `tracing <pid>`, and `dead <pid>` when it is.

It stays a zombie that its parent cannot wait for until we end.
"""

import ctypes
import os
import signal
import sys

PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None):
    sys.exit(os.strerror(ctypes.get_errno()))
os.write(3, f"tracing {sys.argv[1]}\n".encode())
os.waitid(os.P_PID, int(sys.argv[1]), os.WEXITED | os.WNOWAIT)
os.write(3, f"dead {sys.argv[1]}\n".encode())
while True:
    signal.pause()
