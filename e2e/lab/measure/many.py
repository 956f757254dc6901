#!/usr/bin/env python3
"""Announces many addresses, kills the node that has most of them, and says when each was taken over.

It adds a pool and as many Services to the lab that is up, prints how long that took and what the announcers cost while
nothing happens, then kills one announcer after the other. An address counts as taken over when a node that lives
claims it or answers for it; the router asks for all of them ten times a second.
"""

import argparse
import collections
import ipaddress
import math
import signal
import socket
import struct
import time

import lan
import process

MANIFEST = lan.STATE / "manifests" / "many.yaml"
FIRST = ipaddress.ip_address("10.99.0.1")
POOL = """apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: many, namespace: metallb-system}}
spec:
  autoAssign: false
  avoidBuggyIPs: false
  addresses: [{first}-{last}]
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {{name: many, namespace: metallb-system}}
spec:
  ipAddressPools: [many]
---
"""
SERVICE = """apiVersion: v1
kind: Service
metadata: {{name: many-{number}, namespace: default, annotations: {{metallb.io/address-pool: many}}}}
spec:
  type: LoadBalancer
  selector: {{app: many}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: many-{number}, namespace: default, labels: {{kubernetes.io/service-name: many-{number}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080, protocol: TCP}}]
endpoints:
- {{addresses: [192.168.88.12], nodeName: n2, conditions: {{ready: true}}}}
---
"""


class Asker:
    """One socket on the router that asks for all addresses and hears who claims which."""

    def __init__(self, count: int):
        self.addresses = [FIRST + index for index in range(count)]
        self.mac = bytes([2, 0, 0, 0, 0x88, 5])
        head = b"\xff" * 6 + self.mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
        head += self.mac + bytes([192, 168, 88, 1]) + bytes(6)
        self.requests = [head + address.packed for address in self.addresses]
        self.index = {address.packed: number for number, address in enumerate(self.addresses)}
        with lan.inside("r"):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            self.socket.bind(("eth0", 0x0806))

    def ask(self) -> None:
        for request in self.requests:
            self.socket.send(request)

    def hear(self, seconds: float):
        """Claims that come in during the time: when, number of the address, host."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame = self.socket.recv(2048)
            except TimeoutError:
                return
            number = self.index.get(frame[28:32])
            if number is not None and frame[6:12] != self.mac:
                yield time.monotonic(), number, lan.MACS.get(lan.text(frame[22:28]))

    def owners(self, seconds: float) -> dict[int, str]:
        """Who has each address, by the last word heard while it asks ten times a second."""
        owners, end = {}, time.monotonic() + seconds
        while time.monotonic() < end:
            self.ask()
            owners.update({number: host for _, number, host in self.hear(0.1)})
        return owners

    def await_all(self, seconds: float) -> bool:
        end, heard = time.monotonic() + seconds, set()
        while len(heard) < len(self.addresses) and time.monotonic() < end:
            self.ask()
            heard.update(number for _, number, _ in self.hear(0.1))
        return len(heard) == len(self.addresses)


def crash(asker: Asker, limit: float) -> tuple[str, int, list[float]]:
    """Kills the announcer with the most addresses: its name, how many it had, when each was taken over in ms."""
    owners = asker.owners(0.5)
    victim, count = collections.Counter(owners.values()).most_common(1)[0]
    left = {number for number, host in owners.items() if host == victim}
    lan.send_signal(victim, "announcer", signal.SIGKILL)
    begin = time.monotonic()
    taken = []
    while left and time.monotonic() < begin + limit:
        asker.ask()
        for when, number, host in asker.hear(0.1):
            if number in left and host != victim:
                left.discard(number)
                taken.append(1000 * (when - begin))
    return victim, count, sorted(taken)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--addresses", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=10, help="seconds for which the idle announcers are watched")
    parser.add_argument("--limit", type=float, default=1000, help="ms within which all have to be taken over")
    options = parser.parse_args()
    lan.require_lab()
    lan.heal()
    asker = Asker(options.addresses)
    pool = POOL.format(first=asker.addresses[0], last=asker.addresses[-1])
    MANIFEST.write_text(pool + "".join(SERVICE.format(number=number) for number in range(options.addresses)))
    faults = 0
    try:
        begin = time.monotonic()
        if not asker.await_all(60):
            raise SystemExit("not all addresses were announced within 60 s")
        print(f"landfall many: {options.addresses} addresses announced {time.monotonic() - begin:.2f} s after the files")
        # The first bursts of announcements are over.
        time.sleep(4)
        before = [process.processor_time(node) for node in lan.NODES]
        time.sleep(options.idle)
        spent = [process.processor_time(node) - earlier for node, earlier in zip(lan.NODES, before)]
        print(
            f"landfall many idle: {options.addresses} addresses on {len(lan.NODES)} nodes, {process.memory_text()}, "
            f"{1000 * max(spent) / options.idle:.1f} ms of processor time a second"
        )
        slowest = []
        for number in range(options.rounds):
            if number:
                # The hold-down, and the way back of the addresses.
                time.sleep(5)
            victim, count, taken = crash(asker, 10)
            late = count - sum(ms <= options.limit for ms in taken)
            faults += late
            slowest.append(taken[-1] if len(taken) == count else math.inf)
            print(
                f"landfall many kill: {victim} had {count} of {options.addresses} addresses, taken over after ms "
                f"first {taken[0]:.0f} p50 {taken[len(taken) // 2]:.0f} last {slowest[-1]:.0f}; "
                f"later than {options.limit:.0f} ms: {late}",
                flush=True,
            )
            lan.start(victim)
            lan.await_ready(victim, 20)
        print(f"landfall many: {options.rounds} crashes, all taken over within {max(slowest):.0f} ms at most")
    finally:
        MANIFEST.unlink(missing_ok=True)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
