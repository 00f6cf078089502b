"""Start a process that goes on as the main one, say so over the notify socket, and end.

Arguments: a file that the other one writes its pid to; what this one exits with; `double` for a
second fork between, `stay` to wait for SIGUSR1 before the end, `dead` to let the other one end
first.
"""

import os
import signal
import socket
import sys

path, code, *how = sys.argv[1:]


def say(message):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.send(message.encode())


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
reads, writes = os.pipe()
middle = os.fork()
if middle == 0:
    os.setsid()
    if "double" in how and os.fork():
        os._exit(0)
    os.write(writes, f"{os.getpid()}".encode())
    while True:
        signal.pause()
if "double" in how:
    os.waitpid(middle, 0)
heir = int(os.read(reads, 99))
with open(path, "a") as file:
    file.write(f"{heir}\n")
say(f"MAINPID={heir}\nREADY=1")
if "dead" in how:
    os.kill(heir, signal.SIGKILL)
    os.waitpid(heir, 0)
if "stay" in how:
    signal.sigwait({signal.SIGUSR1})
os._exit(int(code))
