"""Say over the notify socket what each argument is, in order; then do as the last one says.

`\\n` in an argument is a newline. Words of our own: `fds:N` attaches N descriptors to the next
message, `child:` says the next message from a child that is gone at once, `barrier` waits until
all was read, `wait` waits for SIGUSR1, `stay` waits to be ended, `exit:CODE` ends.
"""

import os
import select
import signal
import socket
import sys


def send(address, message, fds):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        if fds:
            socket.send_fds(sender, [message], fds)
        else:
            sender.send(message)


def barrier(address):
    reads, writes = os.pipe()
    send(address, b"BARRIER=1", [writes])
    os.close(writes)
    poll = select.poll()
    poll.register(reads, 0)
    assert poll.poll(10_000), "nobody closed the barrier"
    os.close(reads)


def main():  # noqa: C901 - one word after the other
    address = os.environ["NOTIFY_SOCKET"]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    fds, by_child = [], False
    for word in sys.argv[1:]:
        if word.startswith("fds:"):
            fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(int(word[4:]))]
        elif word == "child:":
            by_child = True
        elif word == "barrier":
            barrier(address)
        elif word == "wait":
            signal.sigwait({signal.SIGUSR1})
        elif word == "stay":
            signal.pause()
        elif word.startswith("exit:"):
            os._exit(int(word[5:]))
        else:
            message = word.replace("\\n", "\n").encode("utf-8", "surrogateescape")
            pid = os.fork() if by_child else 0
            if pid == 0:
                send(address, message, fds)
            if by_child and pid == 0:
                os._exit(0)
            if pid:
                os.waitpid(pid, 0)
            for fd in fds:
                os.close(fd)
            fds, by_child = [], False


main()
