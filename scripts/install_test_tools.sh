#!/bin/sh
# Chromium for the browser test, espeak-ng for a second voice, promtool for the alert rules, coturn and the tools of
# network namespaces, Java and Maven for the Kafka of the tests, from Debian, where that is possible.
set -eu
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v espeak-ng >/dev/null 2>&1 || missing="$missing espeak-ng"
command -v promtool >/dev/null 2>&1 || missing="$missing prometheus"
command -v turnserver >/dev/null 2>&1 || missing="$missing coturn"
command -v ip >/dev/null 2>&1 || missing="$missing iproute2"
command -v nft >/dev/null 2>&1 || missing="$missing nftables"
if [ -z "${VOXTHREAD_TEST_KAFKA:-}" ]; then
  command -v java >/dev/null 2>&1 || missing="$missing default-jre-headless"
  command -v mvn >/dev/null 2>&1 || missing="$missing maven"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "test: installing$missing"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing; } >/dev/null && exit 0
fi
echo "!!! NOT INSTALLED:$missing. Their tests are skipped here. Install them: apt-get install$missing" >&2
