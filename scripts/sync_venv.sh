#!/bin/sh
# Make .venv hold exactly what requirements/lock.txt pins, and this project editable.
set -eu
. scripts/find_python.sh
uv=.tools/uv/bin/uv

# uv does not read pip's settings; a machine that reaches packages through a mirror has it there.
pip_setting() {
  "$PYTHON" -m pip config list 2>/dev/null | sed -n "s/^.*\.$1='\(.*\)'\$/\1/p" | tail -n 1
}
index="$(pip_setting index-url)"
cert="$(pip_setting cert)"
[ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"
[ -z "$cert" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"

.venv/bin/python -c '' 2>/dev/null || "$uv" venv --quiet --clear --no-project --python "$PYTHON" .venv
echo "setup: installing the packages of requirements/lock.txt into .venv"
"$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements/lock.txt
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
