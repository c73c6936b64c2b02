"""Nothing in the tree names one machine's paths or the package index it was made with."""

import re
import subprocess
import sys
from pathlib import Path

# The roots of people's, machines' and build systems' directories, and the settings and hosts of indexes.
_FORBIDDEN = re.compile(
    r"(?<![\w./:}-])/(?:home|root|Users|mnt|opt(?!/homebrew/)|srv|tmp|work|workspace)/\w"
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs\.org"
    r"|--(?:extra-)?index-url|--find-links"
)
_EXEMPT = {Path("scripts/check_tree.py")}


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True, text=True).stdout
    failures = 0
    for path in map(Path, listed.rstrip("\0").split("\0")):
        if path in _EXEMPT or not path.is_file():
            continue
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if found := _FORBIDDEN.search(line):
                failures += 1
                print(f"{path}:{number}: {found[0]!r} belongs to one machine or one package index")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
