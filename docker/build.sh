#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# build.sh builds the images of this folder, one after another, and skips those
# that are up to date.
#
#   docker/build.sh                     all of them
#   docker/build.sh prosody lockstepd   what compose.yaml needs
#   docker/build.sh prosody-0.12        one
#   docker/build.sh --list              names, tags, and whether they are up to date
#   docker/build.sh --pin NAME          build it and print its tag with the hash, alone
#
#   base            lockstep/base:bookworm       base-image.sh
#   prosody-0.12    lockstep/prosody:0.12        Debian 12
#   prosody-13      lockstep/prosody:13          Debian 12 with backports
#   ejabberd-23.01  lockstep/ejabberd:23.01      Debian 12
#   ejabberd-24.12  lockstep/ejabberd:24.12      Debian 12 with backports
#   lockstepd       lockstep/lockstepd:latest    the binary alone; needs Go, or
#                                                LOCKSTEPD_BINARY=a static one
#
# Two builds at once wait for each other. Output is one line per image; the
# whole log is shown when a build fails, and always with LOCKSTEP_VERBOSE=1.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

say() { printf 'build: %s\n' "$*"; }
die() { printf 'build: error: %s\n' "$1" >&2; shift; for h in "$@"; do printf 'build: hint: %s\n' "$h" >&2; done; exit 1; }

servers=(prosody-0.12 prosody-13 ejabberd-23.01 ejabberd-24.12)
tag() {
  case $1 in
    base) echo lockstep/base:bookworm ;;
    lockstepd) echo lockstep/lockstepd:latest ;;
    *) echo "lockstep/${1%%-*}:${1#*-}" ;;
  esac
}

list= pin=
targets=()
for a in "$@"; do
  case $a in
    -h|--help) sed -n '/^# build.sh/,/^set -e/p' "$0" | sed -e '$d' -e 's/^# \{0,1\}//'; exit 0 ;;
    --list) list=1 ;;
    --pin) pin=1 ;;
    all) targets+=("${servers[@]}" lockstepd) ;;
    servers) targets+=("${servers[@]}") ;;
    prosody) targets+=(prosody-13) ;;
    ejabberd) targets+=(ejabberd-24.12) ;;
    base|lockstepd|prosody-0.12|prosody-13|ejabberd-23.01|ejabberd-24.12) targets+=("$a") ;;
    *) die "unknown image \"$a\"" "one of: base ${servers[*]} lockstepd; none means all" ;;
  esac
done
[ ${#targets[@]} -gt 0 ] || targets=("${servers[@]}" lockstepd)

command -v docker >/dev/null || die "docker is not installed" "on Debian: apt-get install docker.io"
docker info >/dev/null 2>&1 || die "the docker engine does not answer" \
  "start it (systemctl start docker), and see that this user may use it (group docker)"

work=$(mktemp -d "${TMPDIR:-/tmp}/lockstep-build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# One build at a time on a machine: CI, a test that finds an image missing and a
# person at a terminal may all come at once.
if [ -z "$list" ] && command -v flock >/dev/null; then
  exec 9>"${TMPDIR:-/tmp}/lockstep-docker-build.lock" 2>/dev/null || die "cannot open ${TMPDIR:-/tmp}/lockstep-docker-build.lock"
  chmod 666 "${TMPDIR:-/tmp}/lockstep-docker-build.lock" 2>/dev/null || true
  flock -n 9 || { say "waiting for another build" >&2; flock 9; }
fi

# What an image is made of, as one hash.
inputs() { # DIR EXTRA...
  local dir=$1; shift
  { printf '%s\n' "$@"
    cd "$dir" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
  } | sha256sum | cut -c1-12
}

# Each build has a tag with its hash beside the plain one, so that two checkouts
# of this project on one machine (CI of two branches) do not take each other's.
build() { # NAME DIR HASH [docker build arguments]
  local name=$1 dir=$2 hash=$3 image pinned started=$SECONDS; shift 3
  image=$(tag "$name") pinned=$(tag "$name")-$hash
  if docker image inspect "$pinned" >/dev/null 2>&1; then
    [ -n "$list" ] || docker tag "$pinned" "$image"
    [ -n "$pin" ] && echo "$pinned" || say "$image is up to date"
    return 0
  fi
  [ -z "$list" ] || { say "$image is missing or out of date"; return 0; }
  [ -n "$pin" ] || say "building $image"
  # The classic builder: it is in every engine since 1.x, and takes the base
  # image from this machine whatever buildx is set to. The host's network
  # carries apt to where the host's own apt goes.
  local out=/dev/stderr
  [ -n "${LOCKSTEP_VERBOSE:-}" ] || out=$work/$name.log
  if ! DOCKER_BUILDKIT=0 docker build --network host -t "$pinned" "$@" "$dir" >"$out" 2>&1; then
    [ -n "${LOCKSTEP_VERBOSE:-}" ] || tail -n 40 "$out" >&2
    die "building $image failed" "LOCKSTEP_VERBOSE=1 shows everything"
  fi
  docker tag "$pinned" "$image"
  # The last five builds stay; one that a container uses stays anyway.
  docker image ls --format '{{.Repository}}:{{.Tag}}' "${image%%:*}" | { grep -E "^$image-[0-9a-f]{12}$" || true; } | tail -n +6 \
    | while read -r old; do docker image rm "$old" >/dev/null 2>&1 || true; done
  [ -n "$pin" ] && echo "$pinned" || say "$image built in $((SECONDS - started)) s"
}

base() {
  [ -z "$list" ] || { docker image inspect "$(tag base)" >/dev/null 2>&1 && say "$(tag base) is present" || say "$(tag base) is missing"; return 0; }
  if [ -n "$pin" ]; then "$here/base-image.sh" >&2; else "$here/base-image.sh"; fi
}

server() { # NAME
  local kind=${1%%-*} suite=bookworm
  case $1 in prosody-13|ejabberd-24.12) suite=bookworm-backports ;; esac
  build "$1" "$here/$kind" "$(inputs "$here/$kind" "$suite")" \
    --build-arg "SUITE=$suite" --build-arg "GENERATION=${1#*-}"
}

daemon() {
  local ctx=$work/lockstepd hash
  mkdir -p "$ctx/data" "$ctx/certs"
  cp "$here/lockstepd/Dockerfile" "$ctx/"
  if [ -n "${LOCKSTEPD_BINARY:-}" ]; then
    cp "$LOCKSTEPD_BINARY" "$ctx/lockstepd"
  else
    command -v go >/dev/null || die "building lockstepd needs Go" "https://go.dev/dl, or LOCKSTEPD_BINARY=a static binary"
    (cd "$root" && CGO_ENABLED=0 GOOS=linux go build -buildvcs=false -ldflags '-s -w' -o "$ctx/lockstepd" ./component/cmd/lockstepd) \
      || die "go build ./component/cmd/lockstepd failed"
  fi
  # Certificate authorities, for PostgreSQL and links over TLS; none is an empty file.
  touch "$ctx/certs/ca-certificates.crt"
  for f in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    [ -s "$f" ] && { cp -L "$f" "$ctx/certs/ca-certificates.crt"; break; }
  done
  hash=$(inputs "$ctx")
  build lockstepd "$ctx" "$hash"
}

started=$SECONDS
needs_base=
for t in "${targets[@]}"; do [ "$t" = lockstepd ] || needs_base=1; done
[ -z "$needs_base" ] || base
for t in "${targets[@]}"; do
  case $t in
    base) ;;
    lockstepd) daemon ;;
    *) server "$t" ;;
  esac
done
[ -n "$list$pin" ] || say "done in $((SECONDS - started)) s"
