// SPDX-License-Identifier: Apache-2.0

// Package servers starts real XMPP servers for tests: Prosody and ejabberd,
// two generations of each.
//
//	srv := servers.Shared(t, servers.Prosody13)   // one per process, started on first use
//	mls := srv.LeaseComponent(t)                  // a component domain of this test's own
//	juliet := srv.Account(t, "juliet")            // a fresh account
//
//	srv.C2S()            "127.0.0.1:21877", STARTTLS
//	srv.C2STLS()         the same by direct TLS
//	srv.ComponentAddr()  where a component (XEP-0114) connects, with mls.Domain and mls.Secret
//	srv.TLSConfig()      trusts the certificates of this process's servers
//
// A test that stops, kills, pauses or cuts off its server, or wants another
// configuration, has one of its own:
//
//	srv := servers.Start(t, servers.Ejabberd24, servers.Options{Domain: "capulet.example"})
//
// All servers of one process can reach each other by federation under their
// domains, component domains included; [Server.Partition] and [Server.Heal] cut
// and mend that alone, while clients and components stay connected.
//
// # Where the servers come from
//
// From containers where a Docker engine answers: images that docker/build.sh
// makes from Debian's packages, built on first use, once per machine. Else from
// the prosody and ejabberd packages installed on this machine, as processes of
// this user on loopback with high ports (one generation of each: the installed
// one). Else the test is skipped, with a message that names what is missing.
//
// LOCKSTEP_E2E decides:
//
//	(unset)   use what is there, skip loudly what is not
//	require   absence is a failure
//	docker    containers only, absence is a failure
//	native    installed servers only; a generation that is not installed is skipped
//	off       skip, and say so
//
// KEEP=1 leaves the servers running when the process ends and prints where they
// listen. LOCKSTEP_SERVER_LOGS names a folder for the logs of servers whose
// tests failed (default: a folder of the system's temporary one).
//
// # What is ended, and when
//
// Servers of [Start] end with their test. Shared ones end with the process when
// TestMain calls [Main]:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }
//
// Containers and networks are labelled with the process that made them; what a
// killed process left behind is removed by the next one that starts a server.
// Nothing without that label is touched.
//
// The package does not import testing, so that commands (integration/load) can
// use [New] too.
package servers
