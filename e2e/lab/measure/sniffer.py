"""A sniffer on the router: asks all the time who has an address, and finds times when two hosts say so."""

import multiprocessing
import time

import lan

# Claims of one host that are this close to each other count as one uninterrupted claim.
CHAIN = 0.05


class Sniffer:
    """The sniffer, in a process of its own on host `r`."""

    def __init__(self, address: str, interval: float = 0.005):
        context = multiprocessing.get_context("fork")
        self.claims, sender = context.Pipe(duplex=False)
        self.stop = context.Event()
        self.process = context.Process(target=_run, args=(address, interval, self.stop, sender), daemon=True)
        self.process.start()

    def finish(self) -> list[tuple[float, str]]:
        """Stops the sniffer; returns time (CLOCK_MONOTONIC) and MAC of each claim."""
        self.stop.set()
        claims = self.claims.recv()
        self.process.join()
        return claims


def _run(address, interval, stop, sender) -> None:
    asker = lan.Asker("r", address)
    claims, due = [], time.monotonic()
    while not stop.is_set():
        asker.ask()
        due += interval
        while (left := due - time.monotonic()) > 0:
            mac = asker.hear(left)
            if mac:
                claims.append((time.monotonic(), mac))
        due = max(due, time.monotonic())
    sender.send(claims)


def spans(claims: list[tuple[float, str]]) -> list[tuple[float, float, str]]:
    """Uninterrupted claims: first and last time and the MAC, in order of their beginning."""
    open_: dict[str, list[float]] = {}
    done = []
    for when, mac in claims:
        span = open_.get(mac)
        if span and when - span[1] <= CHAIN:
            span[1] = when
        else:
            if span:
                done.append((span[0], span[1], mac))
            open_[mac] = [when, when]
    done.extend((first, last, mac) for mac, (first, last) in open_.items())
    return sorted(done)


def overlaps(claims: list[tuple[float, str]]) -> list[tuple[float, float, str, str]]:
    """When two hosts claimed the address at once: begin, length in seconds and both MACs."""
    found = []
    all_spans = spans(claims)
    for index, (begin, end, mac) in enumerate(all_spans):
        for other_begin, other_end, other in all_spans[index + 1 :]:
            if other_begin > end:
                break
            if other != mac:
                found.append((other_begin, min(end, other_end) - other_begin, mac, other))
    return found


def owners(claims: list[tuple[float, str]]) -> list[str]:
    """Who held the address one after the other, by host name where it is one of the lab's."""
    order = []
    for _, _, mac in spans(claims):
        host = lan.MACS.get(mac, mac)
        if not order or order[-1] != host:
            order.append(host)
    return order
