"""The lab's LAN as the measurements see it: hosts, processes, frames and faults."""

import contextlib
import ctypes
import ipaddress
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

STATE = pathlib.Path(os.environ.get("LANDFALL_LAB_STATE", "/run/landfall-lab"))
LAB = pathlib.Path(__file__).resolve().parent.parent / "lab.sh"
NODES = ("n1", "n2", "n3")
MACS = {f"02:00:00:00:88:0{index}": host for index, host in enumerate(("n1", "n2", "n3", "c", "r"), 1)}
CLONE_NEWNET = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


def enter(host: str) -> None:
    """Moves the calling thread (and processes it forks) into a host's network namespace."""
    descriptor = os.open(f"/run/netns/ll-{host}", os.O_RDONLY)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter ll-{host}")
    os.close(descriptor)


@contextlib.contextmanager
def inside(host: str):
    """Runs a block in a host's network namespace; sockets opened there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    enter(host)
    try:
        yield
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)


def require_lab() -> None:
    """Ends the program with a message unless it can work."""
    if os.geteuid() != 0:
        sys.exit("this measurement enters network namespaces: run it as root")
    if not os.path.exists("/run/netns/ll-sw"):
        sys.exit(f"the lab is not up: {LAB} up")


# Processes.


def pid(node: str, program: str) -> int | None:
    """The pid of a node's `announcer` or `responder`, None if it does not run."""
    try:
        number = int((STATE / f"{node}.{program}.pid").read_text())
        state = pathlib.Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    # One that has ended may wait for a while until init takes note of it.
    return None if state in "ZX" else number


def send_signal(node: str, program: str, number: signal.Signals) -> None:
    """Sends a signal to a node's program if it runs."""
    target = pid(node, program)
    if target is not None:
        os.kill(target, number)


def await_end(node: str, program: str, seconds: float) -> bool:
    """Waits until a node's program has ended."""
    end = time.monotonic() + seconds
    while pid(node, program) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def start(node: str) -> None:
    """Starts what does not run on a node."""
    subprocess.run([LAB, "start", node], check=True)


def page(node: str, path: str, port: int = 10254) -> str:
    """What the announcer of a node says on its admin port; empty when it does not answer."""
    try:
        with inside(node):
            connection = socket.create_connection(("127.0.0.1", port), timeout=1)
        with connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: lab\r\n\r\n".encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer.partition(b"\r\n\r\n")[2].decode() if b" 200 " in answer[:20] else ""
    except OSError:
        return ""


def await_ready(node: str, seconds: float) -> bool:
    """Waits until the announcer of a node takes part."""
    end = time.monotonic() + seconds
    while not page(node, "/readyz"):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def takeovers(node: str) -> float:
    """How many addresses a node's announcer has taken from owners that it believed dead."""
    lines = [line for line in page(node, "/metrics").splitlines() if line.startswith("landfall_lb_taken_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'cause="failover"' in line)


# Faults, made in the switch.


def nft(rules: str) -> None:
    """Loads rules in the switch."""
    subprocess.run(["ip", "netns", "exec", "ll-sw", "nft", "-f", "-"], input=rules, text=True, check=True)


def heal() -> None:
    """Removes every fault."""
    nft("table bridge faults {}\ndelete table bridge faults\n")


def drop(conditions: list[str]) -> None:
    """Drops the forwarded frames for which one of the conditions holds, in place of earlier faults."""
    rules = "".join(f"        {condition} drop\n" for condition in conditions)
    nft(
        "table bridge faults {}\ndelete table bridge faults\n"
        "table bridge faults {\n    chain forward {\n"
        f"        type filter hook forward priority 0\n{rules}    }}\n}}\n"
    )


def cut(node: str) -> None:
    """Pulls a node's cable."""
    drop([f'iifname "p-{node}"', f'oifname "p-{node}"'])


def part(node: str) -> None:
    """Separates a node from the other nodes; the client and the router still reach all of them."""
    others = ", ".join(f'"p-{other}"' for other in NODES if other != node)
    drop([f'iifname "p-{node}" oifname {{ {others} }}', f'iifname {{ {others} }} oifname "p-{node}"'])


def lose(percent: int) -> None:
    """Loses a share of all frames between nodes at random."""
    ports = ", ".join(f'"p-{node}"' for node in NODES)
    drop([f"iifname {{ {ports} }} oifname {{ {ports} }} numgen random mod 100 < {percent}"])


# Frames.


def text(mac: bytes) -> str:
    """A MAC as text."""
    return ":".join(f"{byte:02x}" for byte in mac)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Asker:
    """A packet socket on a host that asks who has an address and hears who answers or claims it.

    An ARP reply or request whose sender is the address is a claim, as is a neighbour advertisement for it.
    """

    def __init__(self, host: str, address: str):
        self.address = ipaddress.ip_address(address)
        number = [h for h in MACS.values()].index(host) + 1
        self.mac = bytes([2, 0, 0, 0, 0x88, number])
        last = {"n1": 11, "n2": 12, "n3": 13, "c": 100, "r": 1}[host]
        ethertype = 0x0806 if self.address.version == 4 else 0x86DD
        with inside(host):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
            self.socket.bind(("eth0", ethertype))
        self.request = self._arp(last) if self.address.version == 4 else self._solicitation(last)

    def _arp(self, last: int) -> bytes:
        head = b"\xff" * 6 + self.mac + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
        return head + self.mac + bytes([192, 168, 88, last]) + bytes(6) + self.address.packed

    def _solicitation(self, last: int) -> bytes:
        # The hosts' addresses are written as fd88::11, whose last group is hexadecimal.
        source = ipaddress.ip_address(f"fd88::{last}").packed
        tail = self.address.packed[13:]
        group = ipaddress.ip_address("ff02::1:ff00:0").packed[:13] + tail
        message = struct.pack("!BBHI", 135, 0, 0, 0) + self.address.packed + b"\x01\x01" + self.mac
        length = struct.pack("!I", len(message))
        sum_ = checksum(source + group + length + b"\0\0\0\x3a" + message)
        message = message[:2] + struct.pack("!H", sum_) + message[4:]
        head = b"\x33\x33\xff" + tail + self.mac + b"\x86\xdd\x60\0\0\0" + length[2:] + b"\x3a\xff"
        return head + source + group + message

    def ask(self) -> None:
        """Sends one request."""
        with contextlib.suppress(OSError):
            self.socket.send(self.request)

    def hear(self, timeout: float) -> str | None:
        """Waits for one claim and returns its MAC, None when the time is over."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame = self.socket.recv(2048)
            except (TimeoutError, OSError):
                return None
            claimant = self._claimant(frame)
            if claimant:
                return claimant
        return None

    def _claimant(self, frame: bytes) -> str | None:
        if frame[6:12] == self.mac:
            return None
        if self.address.version == 4:
            return text(frame[22:28]) if frame[28:32] == self.address.packed else None
        claims = frame[20] == 58 and len(frame) >= 78 and frame[54] == 136 and frame[62:78] == self.address.packed
        return text(frame[6:12]) if claims else None

    def owner(self, timeout: float = 0.2) -> str | None:
        """Asks once: the host that answers, its MAC if it is no host of the lab, None if nobody does."""
        while self.hear(0.0005):
            pass
        self.ask()
        mac = self.hear(timeout)
        return MACS.get(mac, mac) if mac else None

    def settled(self, stable: float, seconds: float) -> str | None:
        """Waits until one node has been the only one to answer for `stable` seconds; None when time is over."""
        end = time.monotonic() + seconds
        since, last = time.monotonic(), None
        while time.monotonic() < end:
            now = self.owner(0.05)
            if now is None or now != last:
                since, last = time.monotonic(), now
            elif time.monotonic() - since >= stable:
                return now
            time.sleep(0.01)
        return None
