"""Asks by ARP who has an IPv4 address, and prints every MAC that answers within the time, one a line.

    who-has.py INTERFACE ADDRESS [SECONDS]

arping prints answers for people and Linux keeps one of them, so neither says whether two hosts answer.
"""

import socket
import struct
import sys
import time

ETH_P_ARP = 0x0806
ETHERNET_AND_ARP = struct.Struct("!6s6sH HHBBH 6s4s6s4s")


def main(interface: str, address: str, seconds: float) -> None:
    wanted = socket.inet_aton(address)
    answered: set[bytes] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as wire:
        wire.bind((interface, ETH_P_ARP))
        own = wire.getsockname()[4]
        # Without an address of its own a question is a probe, which a host answers all the same (RFC 5227).
        packed = ETHERNET_AND_ARP.pack(
            b"\xff" * 6, own, ETH_P_ARP, 1, 0x0800, 6, 4, 1, own, b"\0" * 4, b"\0" * 6, wanted
        )
        end = time.monotonic() + seconds
        again = 0.0
        wire.settimeout(0.05)
        while (now := time.monotonic()) < end:
            if now >= again:
                wire.send(packed)
                again = now + 0.2
            try:
                frame = wire.recv(128)
            except TimeoutError:
                continue
            fields = ETHERNET_AND_ARP.unpack_from(frame)
            operation, sender_mac, sender_ip = fields[7], fields[8], fields[9]
            if operation == 2 and sender_ip == wanted:
                answered.add(sender_mac)
    for mac in sorted(answered):
        print(mac.hex(":"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 1)
