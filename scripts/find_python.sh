# Sourced: sets PYTHON to a Python >= 3.11 that has pip, or says what is missing and exits.

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      found="$candidate"
      if "$candidate" -m pip --version >/dev/null 2>&1; then
        PYTHON="$candidate"
        return
      fi
    fi
  done
  if [ -n "${found:-}" ]; then
    echo "setup: $found has no pip. Install it (Debian, Ubuntu: apt-get install python3-pip), or set" >&2
    echo "       PYTHON=/path/to/python to another Python >= 3.11." >&2
  else
    echo "setup: Voxthread needs Python 3.11 or newer with pip; found only: $(python3 --version 2>&1)." >&2
    echo "       Install one, or point to it: make setup PYTHON=/path/to/python3.11" >&2
  fi
  exit 1
}

find_python
