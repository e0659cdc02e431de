package testservers_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"gancho/internal/testservers"
)

// A private Redis, on a free port and in a temporary directory.
func ExampleStartRedis() {
	server, err := testservers.StartRedis(testservers.RedisOptions{Settings: map[string]string{"appendfsync": "always"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	fmt.Println(client.ConfigGet(context.Background(), "appendfsync").Val())
	// Output: map[appendfsync:always]
}
