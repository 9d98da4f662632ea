"""Prints the tables of all cases: table.py RESULTS [CASE…]. Exit code 1 if a case failed or a named one is missing.

Rows that bring a `head` of their own get a table of their own.
"""

import json
import sys

HEAD = ("case", "transport", "sent", "arrived", "planted", "survived", "markers", "seconds", "verdict")


def main(path: str, wanted: list[str]) -> int:
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    tables = {}
    for row in rows:
        tables.setdefault(tuple(row.get("head", HEAD)), []).append(row["cells"])
    for head, body in tables.items():
        print("\nsent and arrived are spans/log records/metric points" if head == HEAD else "")
        cells = [head, *body]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        for row in cells:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    missing = sorted(set(wanted) - {row["cells"][0] for row in rows})
    if missing:
        print(f"\nno such case: {', '.join(missing)}")
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in ("ok", "FAILED", "NOT RUN") if each in verdicts)
    print(f"\ninterop: {counts or 'no case was run'}")
    return 1 if missing or not rows or "FAILED" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
