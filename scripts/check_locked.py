"""requirements/lock.txt pins, with hashes, exactly what pyproject.toml asks for. Needs no network."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path("requirements/lock.txt")
INSTALLER = Path("requirements/uv.txt")
_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>.*\n(?:[ \t]+.*\n?)*)", re.MULTILINE
)
_DIRECT = "voxthread (pyproject.toml)"


def pins(text: str) -> dict[str, tuple[str, frozenset[str], str]]:
    """Version, hashes and the whole entry of each pinned package, by canonical name."""
    return {
        canonicalize_name(entry["name"]): (
            entry["version"],
            frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry["rest"])),
            entry[0],
        )
        for entry in _PIN.finditer(text)
    }


def problems() -> Iterator[str]:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wanted = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["dev"]]
    text = LOCK.read_text()
    locked = pins(text)
    asked_for: dict[str, Requirement] = {canonicalize_name(r.name): r for r in wanted}
    for name, requirement in asked_for.items():
        if name not in locked:
            yield f"{requirement} is not pinned"
        elif not requirement.specifier.contains(locked[name][0]):
            yield f"{requirement} is pinned to {locked[name][0]}"
    for name, (version, hashes, entry) in locked.items():
        if not hashes:
            yield f"{name}=={version} has no hash"
        if _DIRECT in entry and name not in asked_for:
            yield f"{name} is pinned for the project, which no longer asks for it"
    if re.search(r"^-|https?://", text, re.MULTILINE):
        yield "an option or an address stands in the lock file"
    if {n: p[:2] for n, p in pins(INSTALLER.read_text()).items()} != {"uv": locked["uv"][:2]}:
        yield f"{INSTALLER} and {LOCK} pin different installers"


def main() -> int:
    found = list(problems())
    for problem in found:
        print(f"{LOCK}: {problem}")
    if found:
        print("run `make lock`; copy the entry of uv to requirements/uv.txt if it changed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
