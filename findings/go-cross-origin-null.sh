#!/usr/bin/env bash
# Under `Referrer-Policy: no-referrer`, Go's CrossOriginProtection has one header left to go by, which plain http and older browsers do not send.
#
# Version   Go 1.26.8, net/http CrossOriginProtection (since 1.25); Chromium 143 (npm, pinned below).
# Expected  The policy is about the header Referer. A form that a page posts to its own origin carries that origin, and is allowed.
# Behaviour Under the policy Chromium sends `Origin: null` with a form's POST, to the page's own origin as well (the Fetch standard
#           has it so). CrossOriginProtection then still allows it by Sec-Fetch-Site; but that header is sent to
#           trustworthy addresses only, and by browsers since 2020 to 2023 (Safari 16.4). Without both, every form is refused as
#           of another site. `Referrer-Policy: same-origin` tells other sites as little, and keeps the Origin.
# Output    http://127.0.0.1, same-origin: Origin: its own; Sec-Fetch-Site: same-origin; allowed
#           http://127.0.0.1, no-referrer: Origin: null; Sec-Fetch-Site: same-origin; allowed
#           http://unit.test, same-origin: Origin: its own; Sec-Fetch-Site: none sent; allowed
#           http://unit.test, no-referrer: Origin: null; Sec-Fetch-Site: none sent; refused
#
# Needs: go, node, npm, the libraries of a headless Chromium. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund @sparticuz/chromium@143.0.4 puppeteer-core@24.34.0 >/dev/null
printf 'module try\n\ngo 1.26\n' >go.mod
cat >main.go <<'GO'
package main

import (
	"fmt"
	"net"
	"net/http"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	guard := http.NewCrossOriginProtection()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{policy}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Referrer-Policy", r.PathValue("policy"))
		fmt.Fprint(w, `<!doctype html><title>form</title><form method=post action=/post><button>go</button></form>`)
	})
	mux.HandleFunc("POST /post", func(w http.ResponseWriter, r *http.Request) {
		origin, site, answer := "its own", r.Header.Get("Sec-Fetch-Site"), "allowed"
		if r.Header.Get("Origin") == "null" {
			origin = "null"
		}
		if site == "" {
			site = "none sent"
		}
		if guard.Check(r) != nil {
			answer = "refused"
		}
		fmt.Fprintf(w, "<!doctype html><title>Origin: %s; Sec-Fetch-Site: %s; %s</title>", origin, site, answer)
	})
	panic(http.Serve(listener, mux))
}
GO
cat >try.mjs <<'JS'
import chromium from '@sparticuz/chromium'
import puppeteer from 'puppeteer-core'
const args = [...chromium.args, '--no-sandbox', '--host-resolver-rules=MAP unit.test 127.0.0.1']
const browser = await puppeteer.launch({ args, executablePath: await chromium.executablePath(), headless: 'shell' })
for (const host of ['127.0.0.1', 'unit.test']) {
	for (const policy of ['same-origin', 'no-referrer']) {
		const page = await browser.newPage()
		await page.goto(`http://${host}:${process.argv[2]}/${policy}`)
		await Promise.all([page.waitForNavigation(), page.click('button')])
		console.log(`http://${host}, ${policy}: ${await page.title()}`)
	}
}
await browser.close()
JS
go build -o serve .
mkfifo port
./serve >port &
read -r number <port
node try.mjs "$number" >out
cat out
diff - out <<'OUT'
http://127.0.0.1, same-origin: Origin: its own; Sec-Fetch-Site: same-origin; allowed
http://127.0.0.1, no-referrer: Origin: null; Sec-Fetch-Site: same-origin; allowed
http://unit.test, same-origin: Origin: its own; Sec-Fetch-Site: none sent; allowed
http://unit.test, no-referrer: Origin: null; Sec-Fetch-Site: none sent; refused
OUT
