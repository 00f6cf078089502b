"""Say `ready <pid>`, and let nothing but SIGKILL end us."""

import os
import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(3, f"ready {os.getpid()}\n".encode())
while True:
    signal.pause()
