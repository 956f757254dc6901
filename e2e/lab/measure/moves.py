#!/usr/bin/env python3
"""Moves an address from node to node on purpose while a client makes requests, and says how many were lost.

Kinds of moves, in turn: sigterm (the owner's announcer ends and is started again), exclude (the owner's Node gets the
label node.kubernetes.io/exclude-from-external-load-balancers), cordon (the owner's Node becomes unschedulable). Taking
the label or the cordon away moves the address once more.

The client begins a request every 2 ms and goes on through all moves. A request is lost when it is refused, reset or
not answered for --timeout seconds; a lost SYN that TCP repeats is not lost, but shows as a slow request.
"""

import argparse
import time
from collections import Counter

import client
import lan
import sniffer

KINDS = ("sigterm", "exclude", "cordon")
NODES = lan.STATE / "manifests" / "nodes.yaml"
EXCLUDE = "    node.kubernetes.io/exclude-from-external-load-balancers: \"\"\n"
# Longer than a request without a fault ever takes, shorter than TCP's first repetition (1 s).
SLOW = 0.1


def write(text: str) -> None:
    """Replaces the Nodes in one step, as an API server would."""
    new = NODES.with_suffix(".new")
    new.write_text(text)
    new.replace(NODES)


class Mover:
    """Makes one node after the other give the address away."""

    def __init__(self, asker: lan.Asker):
        self.asker = asker
        self.healthy = NODES.read_text()
        self.made = Counter()

    def move(self, kind: str) -> None:
        owner = self.asker.settled(0.3, 10)
        if owner not in lan.NODES:
            raise SystemExit(f"no node answers steadily: {owner}")
        getattr(self, kind)(owner)
        end = time.monotonic() + 5
        while (now := self.asker.owner()) == owner or now is None:
            if time.monotonic() > end:
                raise SystemExit(f"{owner} still has the address 5 s after {kind}")
        self.made[kind] += 1
        time.sleep(0.2)
        self.repair(owner, kind)
        time.sleep(0.2)

    def sigterm(self, owner: str) -> None:
        lan.send_signal(owner, "announcer", lan.signal.SIGTERM)

    def exclude(self, owner: str) -> None:
        name = f"    kubernetes.io/hostname: {owner}\n"
        write(self.healthy.replace(name, name + EXCLUDE))

    def cordon(self, owner: str) -> None:
        name = f"    kubernetes.io/hostname: {owner}\nstatus:\n"
        cordoned = f"    kubernetes.io/hostname: {owner}\nspec: {{unschedulable: true}}\nstatus:\n"
        write(self.healthy.replace(name, cordoned))

    def repair(self, owner: str, kind: str) -> None:
        if kind != "sigterm":
            write(self.healthy)
            return
        if not lan.await_end(owner, "announcer", 20):
            print(f"the announcer of {owner} has not ended 20 s after SIGTERM")
        lan.start(owner)
        # It takes part when it has listened for 0.3 s; until then the others must not be asked to leave.
        lan.await_ready(owner, 10)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of moves, in turn")
    parser.add_argument("--address", default="192.168.88.200", help="the address to ask; IPv4 or IPv6")
    parser.add_argument("--protocol", choices=["tcp", "udp"], default="tcp", help="a connection or a datagram each")
    parser.add_argument("--interval", type=float, default=2, help="ms from one request to the next")
    parser.add_argument("--timeout", type=float, default=3, help="seconds after which a request is lost")
    parser.add_argument("--lost", type=float, default=0, help="fail when more are lost, per 10,000 requests")
    parser.add_argument("--bound", type=float, default=100, help="ms for which two hosts may claim the address")
    options = parser.parse_args()
    lan.require_lab()
    lan.heal()
    asker = lan.Asker("r", options.address)
    mover = Mover(asker)
    watcher = sniffer.Sniffer(options.address)
    requests = client.Client(options.address, options.protocol, options.interval / 1000, options.timeout)
    kinds = options.kinds.split(",")
    try:
        time.sleep(0.5)
        for number in range(options.moves):
            mover.move(kinds[number % len(kinds)])
        time.sleep(1)
    finally:
        write(mover.healthy)
        results, claims = requests.finish(), watcher.finish()
    return 0 if report(options, mover, results, claims) else 1


def report(options, mover: Mover, results: list, claims: list) -> bool:
    """Prints what was lost; returns whether that is within the limits."""
    outcomes = Counter(outcome for _, _, outcome in results)
    lost = len(results) - outcomes[client.ANSWERED]
    took = [end - begin for begin, end, outcome in results if outcome == client.ANSWERED]
    overlap = 1000 * max([0.0, *(length for _, length, _, _ in sniffer.overlaps(claims))])
    made = " ".join(f"{kind} {count}" for kind, count in mover.made.items())
    print(
        f"landfall moves {options.address} {options.protocol}: {mover.made.total()} moves ({made}), changes of owner "
        f"{len(sniffer.owners(claims)) - 1}; requests {len(results)}, lost {lost} "
        f"({10_000 * lost / max(1, len(results)):.2f} of 10,000): refused {outcomes[client.REFUSED]} "
        f"reset {outcomes[client.RESET]} timed out {outcomes[client.TIMED_OUT]}; "
        f"slowest {1000 * max(took, default=0):.0f} ms, over {1000 * SLOW:.0f} ms: {sum(t > SLOW for t in took)}; "
        f"overlap ms max {overlap:.0f}"
    )
    return lost * 10_000 <= options.lost * len(results) and overlap <= options.bound


if __name__ == "__main__":
    raise SystemExit(main())
