# What the scripts here share. Source it first.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What takes long to make and changes seldom is kept outside the checkout.
cache=${LANDFALL_CACHE:-$HOME/.cache/landfall}
# shellcheck disable=SC2034 # for those that source this
target=${CARGO_TARGET_DIR:-$root/target}
export LANDFALL_CACHE=$cache

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Has apt look for new packages, once.
refresh_packages() {
  if [[ -n ${apt_is_fresh:-} ]]; then return; fi
  local as_root=()
  if [[ $(id -u) != 0 ]]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -q >&2
  apt_is_fresh=yes
}

# package PROGRAM DEBIAN-PACKAGE...: installs the packages unless the program is there.
package() {
  local program=$1
  shift
  if command -v "$program" >/dev/null; then return; fi
  command -v apt-get >/dev/null || fail "$program is missing; install it (Debian: $*)"
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || fail "$program is missing; as root: apt-get install $*"
    as_root=(sudo)
  fi
  refresh_packages
  say "install $*"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
  local limit=$1 what=$2
  shift 2
  local end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "$what: not within $limit s"
    sleep 0.05
  done
}
