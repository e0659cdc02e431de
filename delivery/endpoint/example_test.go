package endpoint_test

import (
	"fmt"

	"gancho/delivery/endpoint"
)

func ExampleParse() {
	e, err := endpoint.Parse("crm.yaml", []byte(`
url: https://crm.example.com/hooks?token=segredo
headers: {X-Api-Key: segredo}
events: ["cobranca.*"]
rate: 600/m
timeout: 15s`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(e.Public()))
	fmt.Println(e.Timeout, e.Concurrency, e.Headers)

	_, err = endpoint.Parse("crm.yaml", []byte("url: http://crm.example.com\nbatch: {max: 5000}"))
	fmt.Println(err)
	// Output:
	// {"events":["cobranca.*"],"headers":{"X-Api-Key":"***"},"rate":"10/s","url":"https://crm.example.com/hooks?token=***"}
	// 15s 16 [{X-Api-Key ***}]
	// crm.yaml:1:6: the url is not https; write https, or allow_http: true if everyone on the way may read and change the events
	// crm.yaml:2:14: 5000 is out of range: it must be from 2 to 1000
}
