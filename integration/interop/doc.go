// SPDX-License-Identifier: Apache-2.0

// Command interop is the client side of the MLS working group's interoperability
// interface (service mls_client.MLSClient over gRPC), on the public API of package
// mls alone. A harness drives it together with other implementations:
//
//	go run . -listen 127.0.0.1:50051
//
// With -no-grease nothing is sent that a stack could choke on because it does not
// know it: a script that fails without and passes with it has found such a stack.
//
// It is a module of its own, so that gRPC stays out of the main one. It plays any
// number of actors in one process, also several members of the same group.
package main

//go:generate protoc -I mlsclient --go_out=mlsclient --go_opt=paths=source_relative --go-grpc_out=mlsclient --go-grpc_opt=paths=source_relative mlsclient/mls_client.proto
