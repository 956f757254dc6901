#!/usr/bin/env python3
"""Lets the router own addresses of the pool, then asks for more Services, and checks that no node announces them.

It prints each Service that held one of these addresses and for how long (a second is the limit; a Service that asks for
an address by name keeps it), whoever claimed one, and the problems that name the router's MAC. With --late the router
takes an address that is already announced.
"""

import argparse
import json
import subprocess
import sys
import time

import lan

POD = """apiVersion: v1
kind: Service
metadata: {{name: foreign-{number}, namespace: default{pinned}}}
spec:
  type: LoadBalancer
  selector: {{app: foreign}}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: foreign-{number}, namespace: default, labels: {{kubernetes.io/service-name: foreign-{number}}}}}
addressType: IPv4
ports:
- {{name: http, port: 8080, protocol: TCP}}
endpoints:
- addresses: [192.168.88.12]
  nodeName: n2
  conditions: {{ready: true, serving: true, terminating: false}}
---
"""
ROUTER = next(mac for mac, host in lan.MACS.items() if host == "r")
MANIFEST = lan.STATE / "manifests" / "foreign.yaml"


def status(node: str, port: int) -> dict:
    """What the announcer of a node says at /status; empty when it does not answer."""
    try:
        return json.loads(lan.page(node, "/status", port) or "{}")
    except ValueError:
        return {}


def router(action: str, address: str) -> None:
    """Adds an address to the router or takes it away."""
    command = ["ip", "-n", "ll-r", "addr", action, f"{address}/32", "dev", "eth0"]
    subprocess.run(command, check=action == "add", capture_output=True)


def services(count: int, pinned: str) -> str:
    """Manifests of so many Services, and one that asks for the given address."""
    asks = f", annotations: {{metallb.io/loadBalancerIPs: {pinned}}}"
    texts = [POD.format(number=number, pinned="") for number in range(count)]
    return "".join([*texts, POD.format(number="pinned", pinned=asks)])


def watch(addresses: list[str], options) -> tuple[dict, dict, list]:
    """Looks for claims and at /status: claims by address, seconds held by (Service, address), problems."""
    askers = {address: lan.Asker("c", address) for address in addresses}
    claims = {address: set() for address in addresses}
    held, problems = {}, {}
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        for address, asker in askers.items():
            asker.ask()
            while mac := asker.hear(0.005):
                claims[address].add(mac)
        for node in lan.NODES:
            now = time.monotonic()
            answer = status(node, options.admin_port)
            for service in answer.get("services", []):
                for address in set(service.get("addresses", [])) & set(addresses):
                    key = (node, f"{service['namespace']}/{service['name']}", address)
                    first, _ = held.get(key, (now, now))
                    held[key] = (first, now)
                for problem in service.get("problems", []):
                    problems[json.dumps(problem)] = problem
            for problem in answer.get("problems", []):
                problems[json.dumps(problem)] = problem
    return claims, held, list(problems.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--addresses", default="192.168.88.203,192.168.88.204,192.168.88.205")
    parser.add_argument("--services", type=int, default=3, help="Services that ask for any address")
    parser.add_argument("--ahead", type=float, default=0, help="seconds to wait before the Services are made")
    parser.add_argument("--seconds", type=float, default=10, help="how long to watch")
    parser.add_argument("--admin-port", type=int, default=10254)
    parser.add_argument("--late", action="store_true", help="take 192.168.88.200, which is announced, instead")
    options = parser.parse_args()
    lan.require_lab()
    addresses = ["192.168.88.200"] if options.late else options.addresses.split(",")
    try:
        for address in addresses:
            router("add", address)
        time.sleep(options.ahead)
        if not options.late:
            MANIFEST.write_text(services(options.services, addresses[-1]))
        claims, held, problems = watch(addresses, options)
    finally:
        MANIFEST.unlink(missing_ok=True)
        for address in addresses:
            router("del", address)
    faults = 0
    for address, macs in claims.items():
        hosts = ", ".join(sorted(lan.MACS.get(mac, mac) for mac in macs))
        print(f"{address} was claimed by {hosts or 'nobody'}")
        faults += not options.late and macs != {ROUTER}
    for (node, service, address), (first, last) in held.items():
        print(f"{node} says that {service} held {address} for {last - first:.1f} s")
        faults += not options.late and last - first > 1 and not service.endswith("-pinned")
    named = [problem for problem in problems if ROUTER in json.dumps(problem).lower()]
    for problem in named:
        print(f"problem: {problem.get('kind')} {problem.get('namespace')}/{problem.get('name')} "
              f"{problem.get('reason')}: {problem.get('message')}")
    if not named:
        print(f"no problem names the router's MAC {ROUTER}")
    unasked = [last - first for (_, service, _), (first, last) in held.items() if not service.endswith("-pinned")]
    longest = max(unasked, default=0)
    ours = sum(any(mac != ROUTER for mac in macs) for macs in claims.values())
    print(
        f"landfall foreign{' late' if options.late else ''}: {len(addresses)} addresses of another host, announced by a "
        f"node too: {ours}; held by a Service that didn't ask for it for "
        f"{longest:.1f} s at most; problems that name the host's MAC: {len(named)}"
    )
    return 1 if faults or not named else 0


if __name__ == "__main__":
    sys.exit(main())
