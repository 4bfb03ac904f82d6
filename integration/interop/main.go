// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc"

	"github.com/lockstep-im/lockstep/integration/interop/mlsclient"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:50051", "`address` to serve on, without TLS")
	host := flag.String("host", "", "`host` to serve on, with -port, as other clients of the interface have it")
	port := flag.Int("port", 0, "`port` to serve on; goes before -listen")
	flag.BoolVar(&noGREASE, "no-grease", false, "leave out GREASE (RFC 9420 section 13.5), for stacks that refuse extensions that they do not know")
	flag.Parse()
	if *port != 0 {
		*listen = net.JoinHostPort(*host, strconv.Itoa(*port))
	}
	if err := run(*listen); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("cannot listen, try another -listen address: %w", err)
	}
	fmt.Fprintln(os.Stderr, "interop: serving mls_client.MLSClient on", l.Addr())
	s := grpc.NewServer()
	mlsclient.RegisterMLSClientServer(s, newServer())
	return s.Serve(l)
}
