"""Checks, without network, that every dependency's licence is one deny.toml allows and that none is banned."""

import json
import re
import subprocess
import sys
import tomllib


def allowed_by(expression: str, allowed: set[str]) -> bool:
    """Evaluates an SPDX expression; `WITH` exceptions only widen a licence. `/` is the old form of `OR`."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def alternatives() -> bool:
        nonlocal position
        result = conjunction()
        while position < len(tokens) and tokens[position] == "OR":
            position += 1
            result = conjunction() or result
        return result

    def conjunction() -> bool:
        nonlocal position
        result = term()
        while position < len(tokens) and tokens[position] == "AND":
            position += 1
            result = term() and result
        return result

    def term() -> bool:
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            result = alternatives()
            position += 1
            return result
        if position < len(tokens) and tokens[position] == "WITH":
            position += 2
        return token in allowed

    return alternatives()


def main() -> int:
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    allowed = set(rules["licenses"]["allow"])
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    host = re.search(r"host: (\S+)", version).group(1)
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    problems = []
    for package in packages:
        name, licence = f"{package['name']} {package['version']}", package["license"]
        if package["name"] in banned:
            problems.append(f"{name} is banned by deny.toml")
        if licence is None or not allowed_by(licence, allowed):
            problems.append(f"{name} has licence {licence}, which deny.toml does not allow")
    print("\n".join(problems) or f"{len(packages)} packages, every licence allowed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
