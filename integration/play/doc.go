// SPDX-License-Identifier: Apache-2.0

// Package play performs scenarios: scripts that read as a play, with clients as actors
// and XMPP servers as the stage.
//
//	# A conversation survives a crash of the delivery service
//	juliet create balcony
//	juliet invite balcony romeo
//	romeo expect joined balcony
//	at "<accepted" from ds kill ds
//	& juliet send balcony "what's in a name?"
//	until it happens
//	start ds
//	wait
//	romeo expect message balcony "what's in a name?"
//	agree balcony juliet romeo
//
// A script is a txtar archive. Its comment is the play; the first # line is its title, a
// link in a # line says which issue it keeps from coming back, and the files after it are
// stanzas that plain clients send.
//
// # Setting the stage
//
//	needs WHAT                   skip the script on worlds that lack it
//	server NAME [with mam|rates|kick-old|two-links|no-multicast]
//	                             the first one is "verona" when none is named
//	ds [of SERVER] none | process | on postgres | twice | KEY=VALUE
//	                             each server has a delivery service in this process with a
//	                             SQLite file; a script that kills it gets a real lockstepd
//	cast NAME [of SERVER] [plain]
//	                             who is not cast is a member at the first server
//
// # Acting
//
//	ACTOR[/DEVICE][,ACTOR] VERB ARGUMENTS
//	ACTOR expect KIND [GROUP] "words" ...   wait until it was told this, each once
//	ACTOR never KIND [GROUP] "words" ...    it has not been told this
//	ACTOR count N KIND [GROUP] "words" ...  it was told this N times
//	! SENTENCE [because "words"]            it is refused
//	& SENTENCE, wait                        beside what follows
//	agree GROUP ACTOR ACTOR ...             same epoch, same authenticator
//	nobody saw "words"                      on no link, in no file of a service
//	somebody saw "words"                    on some link
//	kill|stop|start|restart ds|server [NAME]
//	part SERVER SERVER, heal SERVER SERVER
//	drop|double|reorder|delay|cut|stall [N|all] [after N] [DURATION] ["regexp"] from|to WHO
//	outdate [N|all] ["regexp"] from|to WHO  what the first one held is in all later ones
//	at ["regexp"] from|to WHO SENTENCE      play the sentence when the stanza passes
//	until it happens                        until those sentences have been played
//	clear                                   end the faults
//	pause DURATION
//
// Faults sit on taps in the links between clients, delivery services and servers, so they
// work on every world. The verbs of an actor are in the type that plays it.
//
// # Worlds
//
// The in-memory server is always there. Prosody and ejabberd come from package servers,
// which skips loudly where there are none, or fails with LOCKSTEP_E2E=require. KEEP=1
// leaves the world up. LOCKSTEP_TEST_LOGS names a folder for the XML of both directions.
package play
