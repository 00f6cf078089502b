"""End the main thread and go on in another; that one ends the process with 17 when told to.

It is told by SIGUSR1.
"""

import ctypes
import os
import signal
import threading


def last():
    leader = threading.main_thread().native_id
    with open(f"/proc/self/task/{leader}/stat") as stat:
        while stat.read().rpartition(")")[2].split()[0] != "Z":
            os.sched_yield()
            stat.seek(0)
    os.write(3, f"ready {os.getpid()}\n".encode())
    signal.sigwait([signal.SIGUSR1])
    os._exit(17)


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
threading.Thread(target=last).start()
ctypes.CDLL(None).pthread_exit(None)
