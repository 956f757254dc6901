"""Asks each address of the lab by HTTP who answers, and prints it with the MAC the host has learned."""

import argparse
import socket
import subprocess
import time

ADDRESSES = ["192.168.88.200", "192.168.88.201", "192.168.88.202", "fd88::202"]


def ask(address: str) -> str | None:
    """The name of the node that answers at the address, None if nobody does."""
    try:
        with socket.create_connection((address, 80), timeout=0.5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(4096):
                answer += chunk
    except OSError:
        return None
    return answer.rpartition(b"\r\n\r\n")[2].decode().strip() or None


def neighbour(address: str) -> str:
    """What the neighbour table says about the address."""
    output = subprocess.run(["ip", "neigh", "show", address], capture_output=True, text=True, check=False).stdout
    fields = output.split()
    return fields[fields.index("lladdr") + 1] if "lladdr" in fields else "no neighbour entry"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wait", type=float, default=0, help="seconds to wait for the answers, printing nothing")
    wait = parser.parse_args().wait
    silent = ADDRESSES
    end = time.monotonic() + wait
    while wait and silent and time.monotonic() < end:
        silent = [address for address in silent if ask(address) is None]
        time.sleep(0.05)
    if wait:
        for address in silent:
            print(f"nobody answers at {address} after {wait:.0f} s")
        return 1 if silent else 0
    for address in ADDRESSES:
        node = ask(address)
        print(f"{address:<16} {'answered by ' + node if node else 'no answer':<20} {neighbour(address)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
