"""What the announcers cost: memory by kind, and processor time to the nanosecond."""

import pathlib

import lan


def processor_time(node: str) -> float:
    """Seconds that a node's announcer has run, user and kernel, by the scheduler's own account."""
    total = 0
    for task in pathlib.Path(f"/proc/{lan.pid(node, 'announcer')}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory(node: str) -> dict[str, float]:
    """Memory of a node's announcer in MB: resident, and of that allocated (anonymous) and the program's own pages."""
    fields = {}
    for line in pathlib.Path(f"/proc/{lan.pid(node, 'announcer')}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon", "RssFile"):
            fields[name] = int(value.split()[0]) / 1024
    return {"resident": fields["VmRSS"], "allocated": fields["RssAnon"], "program": fields["RssFile"]}


def memory_text() -> str:
    """Of the announcer that has the most allocated."""
    most = max((memory(node) for node in lan.NODES), key=lambda one: one["allocated"])
    return (
        f"{most['resident']:.1f} MB resident: {most['allocated']:.1f} MB allocated, "
        f"{most['program']:.1f} MB pages of the program's file"
    )
