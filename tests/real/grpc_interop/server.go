// The server of gRPC's interop cases, on a free port of loopback that it prints first; the one of grpc-go listens on
// every address of the machine. What it answers is grpc-go's own.
//
//	grpc-interop-server [-cert FILE -key FILE]
package main

import (
	"flag"
	"fmt"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/interop"
	"google.golang.org/grpc/orca"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func main() {
	cert := flag.String("cert", "", "PEM file of the certificate; left out: no TLS")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()

	options := []grpc.ServerOption{orca.CallMetricsServerOption(nil)}
	if *cert != "" {
		tls, err := credentials.NewServerTLSFromFile(*cert, *key)
		if err != nil {
			log.Fatal(err)
		}
		options = append(options, grpc.Creds(tls))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(options...)
	recorder := orca.NewServerMetricsRecorder()
	cases := interop.NewTestServer(interop.NewTestServerOptions{MetricsRecorder: recorder})
	testgrpc.RegisterTestServiceServer(server, cases)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(server.Serve(listener))
}
