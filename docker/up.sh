#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# up.sh starts an XMPP server with lockstep attached, in containers, with
# accounts to try it with.
#
#   docker/up.sh                    Prosody
#   docker/up.sh ejabberd           ejabberd
#   docker/up.sh [ejabberd] down    stop it; the data stay
#   docker/up.sh [ejabberd] purge   stop it and delete the data
#
# It builds the images when they are missing, starts compose.yaml (or
# compose.ejabberd.yaml), waits until it is well, and makes juliet, romeo and
# nurse with random passwords, which it prints once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'up: %s\n' "$*"; }
die() { printf 'up: error: %s\n' "$1" >&2; shift; for h in "$@"; do printf 'up: hint: %s\n' "$h" >&2; done; exit 1; }

server=prosody action=up
for a in "$@"; do
  case $a in
    prosody|ejabberd) server=$a ;;
    up|down|purge) action=$a ;;
    -h|--help) sed -n '/^# up.sh/,/^set -e/p' "$0" | sed -e '$d' -e 's/^# \{0,1\}//'; exit 0 ;;
    *) die "unknown argument \"$a\"" "docker/up.sh [prosody|ejabberd] [up|down|purge]" ;;
  esac
done

if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif command -v docker-compose >/dev/null; then compose=(docker-compose)
else die "neither docker compose nor docker-compose is installed" "on Debian: apt-get install docker-compose"; fi
if [ "$server" = prosody ]; then file=compose.yaml daemon=lockstepd; else file=compose.ejabberd.yaml daemon=lockstepd-ejabberd; fi
compose+=(-f "$here/$file")
[ -z "${LOCKSTEP_PROJECT:-}" ] || compose+=(-p "$LOCKSTEP_PROJECT")

case $action in
  down) exec "${compose[@]}" down ;;
  purge) exec "${compose[@]}" down -v ;;
esac

generation=
[ "$server" = prosody ] && generation=${PROSODY_GENERATION:-13} || generation=${EJABBERD_GENERATION:-24.12}
"$here/build.sh" "$server-$generation" lockstepd
say "starting $server and lockstepd"
"${compose[@]}" up -d >/dev/null 2>"${TMPDIR:-/tmp}/lockstep-up.$$" || { cat "${TMPDIR:-/tmp}/lockstep-up.$$" >&2; rm -f "${TMPDIR:-/tmp}/lockstep-up.$$"; die "compose could not start it" "is a port taken? LOCKSTEP_BIND chooses another address"; }
rm -f "${TMPDIR:-/tmp}/lockstep-up.$$"

for i in $(seq 60); do
  "${compose[@]}" exec -T "$daemon" /lockstepd health >/dev/null 2>&1 && break
  [ "$i" -lt 60 ] || { "${compose[@]}" logs --tail 20 >&2; die "lockstepd is not well after a minute"; }
  sleep 1
done

domain=${LOCKSTEP_DOMAIN:-localhost}
say "lockstepd is attached to $server as mls.$domain"
for user in juliet romeo nurse; do
  password=$(head -c 9 /dev/urandom | base64 | tr '+/' '-_')
  if [ "$server" = prosody ]; then
    exists=$("${compose[@]}" exec -T prosody sh -c "ls /var/lib/prosody/*/accounts/$user.dat" 2>/dev/null || true)
    [ -n "$exists" ] || "${compose[@]}" exec -T prosody prosodyctl register "$user" "$domain" "$password" >/dev/null 2>&1 || die "registering $user failed"
  else
    exists=
    "${compose[@]}" exec -T ejabberd ejabberdctl register "$user" "$domain" "$password" >/dev/null 2>&1 || exists=1
  fi
  if [ -n "$exists" ]; then say "account $user@$domain is there already"; else say "account $user@$domain, password $password"; fi
done
if [ "$server" = prosody ]; then
  certificate="/var/lib/prosody/certs/$domain.crt"
else
  certificate="/var/lib/ejabberd/certs/$domain.crt"
fi
"${compose[@]}" exec -T "$server" cat "$certificate" > "$here/.server.crt" 2>/dev/null && say "the server's self-signed certificate: docker/.server.crt" || rm -f "$here/.server.crt"
say "clients connect to ${LOCKSTEP_BIND:-127.0.0.1}:5222 (STARTTLS) or :5223 (TLS); logs: ${compose[*]} logs -f"
at=
[ "$domain" = localhost ] && [ -z "${LOCKSTEP_BIND:-}" ] || at=" --server ${LOCKSTEP_BIND:-127.0.0.1}:5222"
cat <<END
up: try it, in two terminals (each asks for the password):
  export LOCKSTEP_CA_FILE=$here/.server.crt
  go run ./client/cmd/lockstep listen -a romeo@$domain$at
  go run ./client/cmd/lockstep group create -a juliet@$domain$at balcony
  go run ./client/cmd/lockstep group invite -a juliet@$domain$at balcony romeo@$domain
  go run ./client/cmd/lockstep send -a juliet@$domain$at balcony "wherefore art thou romeo"
up: or talk: go run ./client/cmd/lockstep chat -a juliet@$domain$at
END
