#!/usr/bin/env python3
"""Sends 100,000 packets a second of other traffic to a node and says what that costs its announcer.

UDP and TCP over IPv4 and IPv6 by turns, to the node's MAC and to addresses that nobody has, so that the node's kernel
takes them in, shows them to every packet socket, and drops them. The filters of the announcer's sockets are to keep it
asleep: its processor time is compared with that of an equal time without traffic.
"""

import argparse
import ctypes
import ipaddress
import socket
import struct
import time

import lan
import process

BATCH = 250


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """`struct mmsghdr` of 64-bit Linux."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    ]


def frames(node: str) -> list[bytes]:
    """One frame of each kind."""
    ethernet = bytes.fromhex(next(mac for mac, host in lan.MACS.items() if host == node).replace(":", ""))
    ethernet += bytes([2, 0, 0, 0, 0x88, 5])
    made = []
    for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        payload = struct.pack("!HHHH", 4000, 9, 26, 0).ljust(40, b"\0")
        v4 = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
        v4 += bytes([192, 168, 88, 1, 192, 168, 88, 250])
        v4 = v4[:10] + struct.pack("!H", lan.checksum(v4)) + v4[12:]
        v6 = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        v6 += ipaddress.ip_address("fd88::1").packed + ipaddress.ip_address("fd88::250").packed
        made += [ethernet + b"\x08\x00" + v4 + payload, ethernet + b"\x86\xdd" + v6 + payload]
    return made


class Sender:
    """Sends batches of frames with one system call each."""

    def __init__(self, node: str):
        with lan.inside("r"):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.socket.bind(("eth0", 0))
        made = frames(node)
        self.buffers = [ctypes.create_string_buffer(frame, len(frame)) for frame in made]
        vectors = [Iovec(ctypes.addressof(buffer), len(buffer)) for buffer in self.buffers]
        self.vectors = (Iovec * len(vectors))(*vectors)
        self.headers = (Header * BATCH)()
        for index, header in enumerate(self.headers):
            header.iov = ctypes.pointer(self.vectors[index % len(made)])
            header.iov_length = 1

    def send(self, seconds: float, rate: int) -> int:
        """Sends for so many seconds at the rate, or as fast as it can; returns how many it sent."""
        count, begin = 0, time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            if count >= (now - begin) * rate:
                time.sleep(BATCH / rate / 2)
                continue
            count += max(0, lan.libc.sendmmsg(self.socket.fileno(), self.headers, BATCH, 0))
        return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default="n1")
    parser.add_argument("--rate", type=int, default=100_000, help="packets a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--limit", type=float, default=10, help="fail when they cost more, in ms per second")
    options = parser.parse_args()
    lan.require_lab()
    sender = Sender(options.node)
    begin = process.processor_time(options.node)
    time.sleep(options.seconds)
    quiet = process.processor_time(options.node)
    sent = sender.send(options.seconds, options.rate)
    end = process.processor_time(options.node)
    idle, loaded = (1000 * spent / options.seconds for spent in (quiet - begin, end - quiet))
    print(
        f"landfall flood: {sent} packets in {options.seconds:.0f} s to {options.node} ({sent / options.seconds:.0f} a "
        f"second); announcer {idle:.2f} ms of processor time a second without, {loaded:.2f} ms with them"
    )
    return 1 if loaded - idle > options.limit else 0


if __name__ == "__main__":
    raise SystemExit(main())
