"""Runs the cases of one group and shows what each found. Exit code 1 if one failed.

    drive.py GROUP --binary TRACEGATE --results FILE [--seed N] [CASE…]
    drive.py GROUP --direct --results FILE [CASE…]      no gateway: every case must fail, for its values survive
"""

import argparse
import importlib
import sys
from functools import partial
from pathlib import Path

from case import report, run_case

GROUPS = ("sdk", "js", "agent", "openai", "adk", "collector", "telemetrygen", "backends")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("cases", nargs="*", help="names of cases; all of the group without any")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=20260301)
    options = parser.parse_intermixed_args()
    if (options.binary is None) != options.direct:
        parser.error("either --binary or --direct")
    module = importlib.import_module(f"{options.group}_cases")
    chosen = [case for case in module.CASES if not options.cases or case.name in options.cases]
    rows = []
    for case in chosen:
        run = getattr(case, "run", None) or partial(run_case, case)
        rows.append(run(options.binary, options.seed))
        report(rows[-1], options.results)
    return 1 if any(row.verdict == "FAILED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
