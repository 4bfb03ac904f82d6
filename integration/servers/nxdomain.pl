# SPDX-License-Identifier: Apache-2.0
#
# Answers every DNS question on 127.0.0.1:53 with NXDOMAIN. It runs inside the
# containers of the integration tests: the engine's resolver knows the servers
# by their aliases and asks this one for everything else (SRV records above all),
# so that nothing waits for a resolver out of reach and no test name leaves the
# machine.
use strict;
use warnings;
use IO::Socket::INET;

my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 53, Proto => 'udp')
  or die "nxdomain: cannot listen on 127.0.0.1:53: $!\n";
while (1) {
    my $query;
    my $peer = $socket->recv($query, 4096);
    next unless defined $peer && length($query) >= 12;
    my ($id, $flags) = unpack 'nn', $query;
    next if $flags & 0x8000;    # an answer
    my $end = 12;
    while ($end < length $query) {
        my $label = ord substr $query, $end, 1;
        $end += 1 + $label;
        last if $label == 0 || $label > 63;
    }
    $end += 4;
    next if $end > length $query;
    # A response, recursion as desired and available, no such name.
    $socket->send(pack('nnnnnn', $id, 0x8083 | ($flags & 0x0100), 1, 0, 0, 0) . substr($query, 12, $end - 12), 0, $peer);
}
