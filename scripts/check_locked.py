"""requirements/lock.txt pins, with hashes, exactly what pyproject.toml asks for. Needs no network."""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path("requirements/lock.txt")
INSTALLER = Path("requirements/uv.txt")
_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)(?P<rest>.*\n(?:[ \t]+.*\n?)*)", re.MULTILINE
)


@dataclass(frozen=True)
class Pin:
    """One entry; a package has several where its version depends on the Python it is for."""

    name: str
    version: str
    hashes: frozenset[str]
    direct: bool


def pins(path: Path) -> list[Pin]:
    return [
        Pin(
            canonicalize_name(entry["name"]),
            entry["version"],
            frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", entry["rest"])),
            "voxthread (pyproject.toml)" in entry["rest"],
        )
        for entry in _PIN.finditer(path.read_text())
    ]


def problems() -> Iterator[str]:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    wanted = [Requirement(r) for r in project["dependencies"] + project["optional-dependencies"]["dev"]]
    locked = pins(LOCK)
    for requirement in wanted:
        versions = [pin.version for pin in locked if pin.name == canonicalize_name(requirement.name)]
        if not versions:
            yield f"{requirement} is not pinned"
        for version in versions:
            if not requirement.specifier.contains(version):
                yield f"{requirement} is pinned to {version}"
    asked_for = {canonicalize_name(requirement.name) for requirement in wanted}
    for pin in locked:
        if not pin.hashes:
            yield f"{pin.name}=={pin.version} has no hash"
        if pin.direct and pin.name not in asked_for:
            yield f"{pin.name} is pinned for the project, which no longer asks for it"
    if re.search(r"^-|https?://", LOCK.read_text(), re.MULTILINE):
        yield "an option or an address stands in the lock file"
    installer = {(pin.version, pin.hashes) for pin in pins(INSTALLER)}
    if installer != {(pin.version, pin.hashes) for pin in locked if pin.name == "uv"}:
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
