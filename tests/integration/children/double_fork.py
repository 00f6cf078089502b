"""Leave a daemon behind: a grandchild in a session of its own says `orphan <pid>`, then we end.

With an argument, that many of them.
"""

import os
import signal
import sys

count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
ends = os.pipe()
for _ in range(count):
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.write(3, f"orphan {os.getpid()}\n".encode())
        os.write(ends[1], b".")
        while True:
            signal.pause()
    os.waitpid(middle, 0)
left = count
while left:
    left -= len(os.read(ends[0], 4096))
