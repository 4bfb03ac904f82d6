#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# base-image.sh makes lockstep/base:bookworm, the one layer that every image of
# this folder stands on: Debian 12 with the package sources, proxy and
# certificates of this machine, so that apt works inside it.
#
#   docker/base-image.sh            make it when it is missing
#   docker/base-image.sh --force    make it anew
#
# Where a registry answers, Debian's own bookworm-slim is pulled. Where none
# does (an isolated network, a CI machine with a Debian mirror and nothing else)
# it is built from Debian's packages with debootstrap, which needs root.
#
#   LOCKSTEP_BASE_FROM     image to start from     default debian:bookworm-slim
#   LOCKSTEP_PULL_TIMEOUT  seconds for the pull    default 60; 0 does not try
#   LOCKSTEP_MIRROR        Debian mirror           default: this machine's, else
#                                                  http://deb.debian.org/debian
set -euo pipefail

image=lockstep/base:bookworm
from=${LOCKSTEP_BASE_FROM:-debian:bookworm-slim}
pull_timeout=${LOCKSTEP_PULL_TIMEOUT:-60}

say() { printf 'base-image: %s\n' "$*"; }
die() { printf 'base-image: error: %s\n' "$1" >&2; shift; for h in "$@"; do printf 'base-image: hint: %s\n' "$h" >&2; done; exit 1; }

command -v docker >/dev/null || die "docker is not installed" "on Debian: apt-get install docker.io"
docker info >/dev/null 2>&1 || die "the docker engine does not answer" \
  "start it (systemctl start docker), and see that this user may use it (group docker)"

if [ "${1:-}" != --force ] && docker image inspect "$image" >/dev/null 2>&1; then
  say "$image is present"
  exit 0
fi

started=$SECONDS
work=$(mktemp -d "${TMPDIR:-/var/tmp}/lockstep-base.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

# ---- what apt needs to know of this machine ---------------------------------

# A mirror is taken from this machine only when it is a Debian: an Ubuntu's has
# no bookworm.
host_mirror() {
  grep -qs '^ID=debian' /etc/os-release || return 0
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -nE 's/^URIs: *([^ ]+).*/\1/p'
  } | grep -E '^https?://[^ ]*/debian/?$' | head -n1
}
mirror=${LOCKSTEP_MIRROR:-$(host_mirror || true)}
mirror=${mirror:-http://deb.debian.org/debian}
mirror=${mirror%/}
security=${mirror%/debian}/debian-security

mkdir -p "$work/overlay/etc/apt/apt.conf.d" "$work/overlay/usr/sbin"
cat > "$work/overlay/etc/apt/sources.list" <<LIST
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $mirror bookworm-backports main
deb $security bookworm-security main
LIST
{
  echo 'APT::Install-Recommends "false";'
  echo 'Acquire::Retries "3";'
  echo 'Acquire::Languages "none";'
  if command -v apt-config >/dev/null; then
    apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https|ftp)::(Proxy|Verify)|^Acquire::Check-(Date|Valid-Until) ' || true
  fi
  for s in http https; do
    v=${s}_proxy; [ -z "${!v:-}" ] || echo "Acquire::$s::Proxy \"${!v}\";"
  done
} > "$work/overlay/etc/apt/apt.conf.d/90lockstep"
# No manuals, no translations, and no daemon that a package's installation starts.
mkdir -p "$work/overlay/etc/dpkg/dpkg.cfg.d"
cat > "$work/overlay/etc/dpkg/dpkg.cfg.d/lockstep" <<'CFG'
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
CFG
printf '#!/bin/sh\nexit 101\n' > "$work/overlay/usr/sbin/policy-rc.d"
chmod 755 "$work/overlay/usr/sbin/policy-rc.d"
case $mirror in https:*)
  # A minimal Debian has no certificates yet, and this machine's may hold one of its own network.
  if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    mkdir -p "$work/overlay/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$work/overlay/etc/ssl/certs/"
  fi ;;
esac

# ---- pulled ------------------------------------------------------------------

pulled() {
  docker image inspect "$from" >/dev/null 2>&1 && return 0
  [ "$pull_timeout" != 0 ] || return 1
  say "pulling $from"
  timeout "$pull_timeout" docker pull -q "$from" >"$work/pull.log" 2>&1 && return 0
  say "no registry gave it: $(tail -n1 "$work/pull.log")"
  return 1
}

if pulled; then
  printf 'FROM %s\nCOPY overlay/ /\nRUN rm -f /etc/apt/sources.list.d/debian.sources\n' "$from" > "$work/Dockerfile"
  DOCKER_BUILDKIT=0 docker build -q -t "$image" "$work" >"$work/build.log" 2>&1 \
    || die "docker build failed: $(tail -n3 "$work/build.log")"
  say "$image made from $from in $((SECONDS - started)) s"
  exit 0
fi

# ---- built from Debian's packages ----------------------------------------------

[ "$(id -u)" = 0 ] || die "building $image with debootstrap needs root" \
  "sudo $0" "or reach a registry that has $from, or load it: docker load -i debian.tar"
if ! command -v debootstrap >/dev/null; then
  command -v apt-get >/dev/null || die "debootstrap is not installed and there is no apt-get to install it with" "install debootstrap"
  say "installing debootstrap"
  apt-get update -qq >"$work/apt.log" 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >>"$work/apt.log" 2>&1 \
    || { tail -n5 "$work/apt.log" >&2; die "apt-get install debootstrap failed"; }
fi

# debootstrap asks dpkg for many small syncs that a throw-away tree has no use for.
fast=()
command -v eatmydata >/dev/null && fast=(eatmydata)

say "building bookworm from $mirror with debootstrap (two to three minutes)"
keyring=()
[ -r /usr/share/keyrings/debian-archive-keyring.gpg ] && keyring=(--keyring=/usr/share/keyrings/debian-archive-keyring.gpg)
"${fast[@]}" debootstrap "${keyring[@]}" --variant=minbase bookworm "$work/root" "$mirror" >"$work/debootstrap.log" 2>&1 || {
  tail -n10 "$work/debootstrap.log" >&2
  [ ! -f "$work/root/debootstrap/debootstrap.log" ] || tail -n10 "$work/root/debootstrap/debootstrap.log" >&2
  die "debootstrap failed" "LOCKSTEP_MIRROR names another Debian mirror"
}
cp -a "$work/overlay/." "$work/root/"
rm -rf "$work"/root/var/cache/apt/*.bin "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* \
  "$work"/root/usr/share/man/* "$work"/root/usr/share/locale/* "$work"/root/var/log/*.log
find "$work/root/usr/share/doc" -type f ! -name copyright -delete
find "$work/root/usr/share/doc" -type l -delete
say "importing it"
tar -C "$work/root" --numeric-owner --exclude=./dev/\* -c . | docker import -c 'CMD ["/bin/bash"]' - "$image" >/dev/null
say "$image made with debootstrap in $((SECONDS - started)) s"
