#!/bin/sh
# Run the tests kind by kind, quickest first; each kind runs even when one before it has failed.
set -u
started=$(date +%s)
failed=""
times=""
for kind in unit contract replay integration e2e; do
  ls tests/$kind/test_*.py >/dev/null 2>&1 || continue
  paths="tests/$kind"
  [ "$kind" != unit ] || paths="$paths tests/test_session_id_fix.py"
  echo "=== $kind"
  # These wait for real time and real brokers more than they compute; the others are timed or heavy.
  spread=""
  case $kind in contract | integration) spread="-n 3 --dist loadfile" ;; esac
  began=$(date +%s)
  .venv/bin/pytest -q $spread $paths "$@" || failed="$failed $kind"
  took=$(($(date +%s) - began))
  times="$times $kind ${took} s,"
  if [ "$kind" = unit ] && [ "$took" -gt 10 ]; then
    echo "!!! unit tests took $took s; they must stay within 10 s" >&2
  fi
done
total=$(($(date +%s) - started))
echo "tests:$times total $total s"
[ "$total" -le 600 ] || echo "!!! the tests took longer than 10 minutes" >&2
[ -z "$failed" ] || { echo "FAILED:$failed" >&2; exit 1; }
