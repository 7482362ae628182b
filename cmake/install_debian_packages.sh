#!/usr/bin/env bash
# Installs the packages of debian-packages.txt, and those named as arguments, that are missing, and says which.
# Silent when none is.
set -euo pipefail
cd "$(dirname "$0")"

mapfile -t wanted < <(sed 's/#.*//' debian-packages.txt | cat - <(printf '%s ' "$@") | xargs -n1)
if ! command -v dpkg-query >/dev/null; then
  echo "deps: not a Debian system; install the equivalents of: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0
echo "deps: installing ${missing[*]}"

sudo=()
if [[ $EUID -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "deps: neither root nor sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo)
fi
update() { "${sudo[@]}" apt-get update -q; }
install() {
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
}

# A fresh machine has no package lists; lists that have aged name files that are gone.
apt-cache show --quiet "${missing[@]}" >/dev/null 2>&1 || update
install || { update && install; }
