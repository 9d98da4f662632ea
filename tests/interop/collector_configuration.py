"""Wrong configurations, given to the `validate` commands of the Collector and of tracegate.

Both must exit with 1 and name what is wrong: the words in `collector/wrong.toml`. Both texts are printed, so that a
reader sees that they mean the same.
"""

import os
import subprocess
import tempfile
import tomllib
from pathlib import Path

from case import Row
from collector import COLLECTOR, DATA

RIGHT = DATA / "right.yaml"
SECONDS = 20


def judge(binary: Path, _seed: int, row: Row):
    with open(DATA / "wrong.toml", "rb") as file:
        asked = tomllib.load(file)["configuration"]
    refused = 0
    with tempfile.TemporaryDirectory(prefix="interop-") as directory:
        for program in (COLLECTOR, binary):
            code, text = _validate(program, [RIGHT], Path(directory))
            if code != 0:
                row.faults.append(f"{program.name} does not take right.yaml: {text}")
        for each in asked:
            files = _files(each, Path(directory))
            texts = [_validate(program, files, Path(directory)) for program in (COLLECTOR, binary)]
            faults = []
            print(f"  {each['name']}")
            for who, (code, text) in zip(("Collector", "tracegate"), texts):
                print(f"    {who}  {_shown(text)}")
                faults += _faults(who, each, code, text)
            row.faults += [f"{each['name']}: {fault}" for fault in faults]
            refused += not faults
    row.sent, row.arrived = str(len(asked)), f"{refused} alike"


def _files(each: dict, directory: Path) -> list[Path]:
    if "file" in each:
        return [directory / each["file"]]
    path = directory / "wrong.yaml"
    path.write_text(each["yaml"] + "\n")
    return [path] if each.get("alone") else [RIGHT, path]


def _validate(program: Path, files: list[Path], directory: Path) -> tuple[int, str]:
    arguments = [argument for file in files for argument in ("--config", str(file))]
    environment = {name: value for name, value in os.environ.items() if name != "INTEROP_NOT_SET"}
    ran = subprocess.run(
        [program, "validate", *arguments], cwd=directory, env=environment, capture_output=True, timeout=SECONDS
    )
    return ran.returncode, (ran.stderr + ran.stdout).decode(errors="replace").strip()


def _faults(who: str, each: dict, code: int, text: str) -> list[str]:
    found = [] if code == 1 else [f"{who} exits with {code}"]
    found += [f"{who} does not say {word!r}: {_shown(text)}" for word in each["says"] if word not in text]
    if who == "tracegate" and f"Error: {each.get('at', '')}" not in text:
        found.append(f"{who} does not say that it stands at {each['at']}: {_shown(text)}")
    if not text:
        found.append(f"{who} says nothing")
    if who == "tracegate" and len(text.splitlines()) > 1:
        found.append(f"{who} says more than one line: {_shown(text)}")
    return found


def _shown(text: str) -> str:
    lines = " ⏎ ".join(text.splitlines())
    return lines if len(lines) <= 330 else f"{lines[:300]} …"
