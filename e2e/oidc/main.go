// Command oidc is an OpenID Connect provider for tests: whoever comes is signed in, without a page to ask a person.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/oauth2-proxy/mockoidc"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where it listens")
	id := flag.String("client-id", "landfall", "the client that may ask")
	secret := flag.String("client-secret", "secret", "its secret")
	groups := flag.Int("groups", 0, "how many groups the second person is in, so that the token becomes large")
	flag.Parse()

	provider, err := mockoidc.NewServer(nil)
	if err != nil {
		log.Fatal(err)
	}
	provider.ClientID, provider.ClientSecret = *id, *secret
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	if err := provider.Start(listener, nil); err != nil {
		log.Fatal(err)
	}
	provider.QueueUser(person("ada", 1))
	provider.QueueUser(person("grace", *groups))
	fmt.Println(provider.Issuer())

	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
}

func person(name string, count int) *mockoidc.MockUser {
	groups := make([]string, count)
	for index := range groups {
		groups[index] = fmt.Sprintf("group-%04d-of-many", index)
	}
	return &mockoidc.MockUser{
		Subject:           name,
		PreferredUsername: name,
		Email:             name + "@people.example",
		EmailVerified:     true,
		Groups:            groups,
	}
}
