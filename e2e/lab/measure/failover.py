#!/usr/bin/env python3
"""Measures how long a fault of the owner interrupts new requests to an address of the lab, round by round.

Modes: kill (SIGKILL of announcer and endpoint: the host crashes but its link stays), cut (the cable is pulled), stop
(the announcer is stopped for a while and continued), move (SIGTERM: a planned move), partition (the owner is separated
from the other nodes but not from the client, then healed), loss (random loss between the nodes, with busy loops).

The gap is the longest time between two answers that follow each other; the client begins a request every 2 ms, so
that 2 to 4 ms is no gap at all. A sniffer on the router asks every 5 ms who has the address: two hosts that claim it
at once are an overlap, and one longer than --bound is a fault.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import client
import lan
import sniffer


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


class Round:
    """One fault and what client and sniffer saw of it."""

    def __init__(self, options, asker: lan.Asker):
        self.options = options
        owner = asker.settled(options.stable, 30)
        if owner not in lan.NODES:
            raise SystemExit(f"no node answers steadily for {options.address}: {owner}")
        self.owner = owner
        self.sniffer = sniffer.Sniffer(options.address)
        self.client = client.Client(options.address, options.protocol, 0.002, options.timeout / 1000)
        self.takeovers = 0
        self.misled = not self.client_follows()
        time.sleep(0.3)
        self.begin = time.monotonic()
        self.healed = self.begin
        getattr(self, options.mode)()
        self.end = time.monotonic()
        self.results = self.client.finish()
        self.claims = self.sniffer.finish()
        self.repair()

    def client_follows(self) -> bool:
        """Waits until the client sends to the owner, and sees to it if it doesn't of itself within a second.

        A client that still sends to a former owner is what a missing gratuitous ARP looks like.
        """
        end = time.monotonic() + 1
        while time.monotonic() < end:
            if client.served_by(self.options.address) == self.owner:
                return True
            time.sleep(0.02)
        client.forget(self.options.address)
        return False

    def kill(self) -> None:
        lan.send_signal(self.owner, "announcer", signal.SIGKILL)
        lan.send_signal(self.owner, "responder", signal.SIGKILL)
        time.sleep(self.options.watch)

    def cut(self) -> None:
        lan.cut(self.owner)
        self.begin = time.monotonic()
        time.sleep(self.options.watch)

    def stop(self) -> None:
        lan.send_signal(self.owner, "announcer", signal.SIGSTOP)
        time.sleep(self.options.watch)
        lan.send_signal(self.owner, "announcer", signal.SIGCONT)
        self.healed = time.monotonic()
        time.sleep(1)

    def move(self) -> None:
        lan.send_signal(self.owner, "announcer", signal.SIGTERM)
        if not lan.await_end(self.owner, "announcer", 20):
            print(f"the announcer of {self.owner} has not ended 20 s after SIGTERM")
        time.sleep(self.options.watch / 2)

    def partition(self) -> None:
        lan.part(self.owner)
        time.sleep(self.options.watch)
        lan.heal()
        self.healed = time.monotonic()
        time.sleep(1)

    def loss(self) -> None:
        before = sum(lan.takeovers(node) for node in lan.NODES)
        lan.lose(self.options.percent)
        loops = []
        for _ in range(self.options.busy * len(lan.NODES)):
            loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        try:
            time.sleep(self.options.seconds)
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
            lan.heal()
        self.takeovers = sum(lan.takeovers(node) for node in lan.NODES) - before

    def repair(self) -> None:
        """Undoes the fault so that the next round begins with three healthy nodes."""
        lan.heal()
        lan.send_signal(self.owner, "announcer", signal.SIGCONT)
        lan.start(self.owner)

    def gap(self) -> float:
        """In milliseconds."""
        return 1000 * client.longest_gap(self.results, self.begin, self.end)

    def outcomes(self) -> Counter:
        return Counter(outcome for _, _, outcome in self.results)

    def overlap(self) -> float:
        """Longest time in milliseconds for which two hosts claimed the address; after a partition: since it healed."""
        found = sniffer.overlaps(self.claims)
        if self.options.mode == "partition":
            ends = [begin + length - self.healed for begin, length, _, _ in found]
            return 1000 * max([0.0, *ends])
        return 1000 * max([0.0, *(length for _, length, _, _ in found)])

    def took_over(self) -> list[str]:
        return sniffer.owners(self.claims)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["kill", "cut", "stop", "move", "partition", "loss"], default="kill")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--address", default="192.168.88.200", help="the address to ask; IPv4 or IPv6")
    parser.add_argument("--protocol", choices=["tcp", "udp"], default="tcp", help="a connection or a datagram each")
    parser.add_argument("--timeout", type=float, default=20, help="ms after which a request counts as lost")
    parser.add_argument("--watch", type=float, default=2, help="seconds the fault lasts")
    parser.add_argument("--stable", type=float, default=1, help="seconds of one owner before a round begins")
    parser.add_argument("--bound", type=float, default=100, help="ms for which two hosts may claim the address")
    parser.add_argument("--limit-p50", type=float, help="fail when the median gap is longer, in ms")
    parser.add_argument("--limit-max", type=float, help="fail when a gap is longer, in ms")
    parser.add_argument("--percent", type=int, default=5, help="frames lost in mode loss")
    parser.add_argument("--seconds", type=float, default=60, help="length of a round of mode loss")
    parser.add_argument("--busy", type=int, default=2, help="busy loops per node in mode loss")
    parser.add_argument("--label", default="landfall", help="first word of the summary")
    parser.add_argument("--quiet", action="store_true", help="print the summary only")
    return parser.parse_args()


def report(options, rounds: list[Round]) -> bool:
    """Prints the summary; returns whether everything is within the limits."""
    gaps = [one.gap() for one in rounds]
    overlaps = [one.overlap() for one in rounds]
    total = sum((one.outcomes() for one in rounds), Counter())
    beyond = sum(overlap > options.bound for overlap in overlaps)
    moves = sum(len(one.took_over()) - 1 for one in rounds)
    print(
        f"{options.label} {options.mode} {options.address} {options.protocol}: {len(rounds)} rounds, "
        f"gap ms p50 {percentile(gaps, 0.5):.0f} p99 {percentile(gaps, 0.99):.0f} max {max(gaps):.0f}; "
        f"requests {sum(total.values())} timed out {total[client.TIMED_OUT]} refused {total[client.REFUSED]} reset {total[client.RESET]}; "
        f"changes of owner {moves}, client left behind {sum(one.misled for one in rounds)}; overlap ms max {max(overlaps):.0f}, beyond {options.bound:.0f} ms: {beyond}"
    )
    if options.mode == "loss":
        minutes = options.seconds / 60 * len(rounds)
        false = sum(one.takeovers for one in rounds)
        print(f"{options.label} loss {options.percent} %: {false:.0f} false takeovers in {minutes:.1f} minutes")
        if options.percent <= 5 and false:
            return False
    too_slow = options.limit_p50 is not None and percentile(gaps, 0.5) > options.limit_p50
    too_long = options.limit_max is not None and max(gaps) > options.limit_max
    return not (beyond or too_slow or too_long)


def main() -> int:
    options = arguments()
    lan.require_lab()
    lan.heal()
    asker = lan.Asker("r", options.address)
    rounds = []
    if os.cpu_count() and os.getloadavg()[0] > os.cpu_count():
        print(f"note: the load is {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; gaps include waiting for one")
    try:
        for number in range(1, options.rounds + 1):
            one = Round(options, asker)
            rounds.append(one)
            if not options.quiet:
                outcomes = one.outcomes()
                print(
                    f"round {number}: {' > '.join(one.took_over())}, gap {one.gap():.0f} ms, "
                    f"timed out {outcomes[client.TIMED_OUT]}, refused {outcomes[client.REFUSED]}, reset {outcomes[client.RESET]}, "
                    f"overlap {one.overlap():.0f} ms",
                    flush=True,
                )
    except KeyboardInterrupt:
        lan.heal()
    return 0 if rounds and report(options, rounds) else 1


if __name__ == "__main__":
    raise SystemExit(main())
