#!/bin/sh
# Put the pinned uv into .tools/uv with pip, checked by hash. Touches nothing outside this directory.
set -eu
. scripts/find_python.sh

# What a machine's pip may be told to do by default and cannot be combined with --target.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_BINARY
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_ROOT_USER_ACTION=ignore

echo "setup: fetching uv with $($PYTHON --version)"
rm -rf .tools/uv
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --require-hashes -r requirements/uv.txt --target .tools/uv
