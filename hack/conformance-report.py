#!/usr/bin/env python3
"""Prints the outcome of each of Kubernetes' own tests from a report of its test program.

    conformance-report.py REPORT
"""

import json
import pathlib
import sys


def main() -> None:
    """One line a test, those that did not pass with the reason, and a sum."""
    suites = json.loads(pathlib.Path(sys.argv[1]).read_text())
    specs = [spec for suite in suites for spec in suite["SpecReports"] or [] if spec["LeafNodeType"] == "It"]
    # A test that was not chosen, and one that cannot run here, have the same state; only the second has a reason.
    ran = [spec for spec in specs if spec["State"] != "pending" and (spec["State"] != "skipped" or "Failure" in spec)]
    counts: dict[str, int] = {}
    for spec in ran:
        name = " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
        counts[spec["State"]] = counts.get(spec["State"], 0) + 1
        print(f"{spec['State']:8} {spec['RunTime'] / 1e9:6.1f} s  {name}")
        if spec["State"] != "passed":
            print("         " + " ".join(spec.get("Failure", {}).get("Message", "").split())[:400])
    print("Kubernetes' own tests: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
