"""A client that makes a new request every 2 ms, each on its own, and notes how each one ended."""

import errno
import multiprocessing
import select
import socket
import struct
import subprocess
import time

import lan

ANSWERED, TIMED_OUT, REFUSED, RESET = "answered", "timed out", "refused", "reset"
ABORT = struct.pack("ii", 1, 0)


class Client:
    """The client, in a process of its own on host `c`."""

    def __init__(self, address: str, protocol: str, interval: float, timeout: float):
        context = multiprocessing.get_context("fork")
        self.results, sender = context.Pipe(duplex=False)
        self.stop = context.Event()
        work = (address, protocol, interval, timeout, self.stop, sender)
        self.process = context.Process(target=_run, args=work, daemon=True)
        self.process.start()

    def finish(self) -> list[tuple[float, float, str]]:
        """Stops the client; returns begin, end (CLOCK_MONOTONIC) and outcome of each request, in order of the ends."""
        self.stop.set()
        results = self.results.recv()
        self.process.join()
        return results


def _run(address, protocol, interval, timeout, stop, sender) -> None:
    lan.enter("c")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    poll = select.epoll()
    results, open_ = [], {}

    def close(descriptor: int, outcome: str) -> None:
        connection, begin, _ = open_.pop(descriptor)
        results.append((begin, time.monotonic(), outcome))
        connection.close()

    def begin() -> None:
        connection = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        if protocol == "tcp":
            # An abort instead of an orderly end: no TIME_WAIT, so ports do not run out.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        open_[connection.fileno()] = (connection, time.monotonic(), protocol == "udp")
        result = connection.connect_ex((address, 80))
        if result not in (0, errno.EINPROGRESS):
            return close(connection.fileno(), REFUSED)
        if protocol == "udp":
            connection.send(b"x")
        poll.register(connection, select.EPOLLIN if protocol == "udp" else select.EPOLLOUT)
        return None

    def progress(descriptor: int) -> None:
        connection, started, asked = open_[descriptor]
        try:
            if asked:
                close(descriptor, ANSWERED if connection.recv(4096) else RESET)
            else:
                connection.send(b"GET / HTTP/1.0\r\n\r\n")
                open_[descriptor] = (connection, started, True)
                poll.modify(connection, select.EPOLLIN)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            close(descriptor, REFUSED)
        except OSError:
            close(descriptor, RESET)

    due = time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        if now >= due:
            begin()
            # A client that was held up does not make up for it by a burst.
            due = max(due + interval, now - interval)
        for descriptor, _ in poll.poll(max(0, due - time.monotonic())):
            if descriptor in open_:
                progress(descriptor)
        # Only after everything that has come was looked at: a client that was held up blames nobody.
        while open_:
            oldest = next(iter(open_))
            if now - open_[oldest][1] < timeout:
                break
            close(oldest, TIMED_OUT)
    sender.send(results)


def served_by(address: str) -> str | None:
    """The name of the node to which the client's kernel sends what goes to the address, None if it knows none."""
    with lan.inside("c"):
        output = subprocess.run(["ip", "neigh", "show", address], capture_output=True, text=True, check=True).stdout
    fields = output.split()
    return lan.MACS.get(fields[fields.index("lladdr") + 1]) if "lladdr" in fields else None


def forget(address: str) -> None:
    """Makes the client's kernel ask anew who has the address."""
    subprocess.run(["ip", "-n", "ll-c", "neigh", "del", address, "dev", "eth0"], capture_output=True, check=False)


def longest_gap(results: list[tuple[float, float, str]], start: float, end: float) -> float:
    """The longest time in seconds between two answers that follow each other, of those that span or lie in the time."""
    times = [finish for _, finish, outcome in results if outcome == ANSWERED]
    gaps = [later - earlier for earlier, later in zip(times, times[1:]) if later >= start and earlier <= end]
    if not times or times[-1] < end:
        gaps.append(end - max(start, times[-1] if times else start))
    return max(gaps, default=end - start)
