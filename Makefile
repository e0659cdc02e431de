# Everything that people and machines do with this repository; `make` alone lists it.
# Needs Go (the version of go.mod) and make; what the tests need beside it is installed by `make deps`.

SHELL       := /bin/sh
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FOR         ?=
FUZZTIME    ?= 10s
RUNBOOKS    ?=
PKG         ?= ./...
TESTFLAGS   ?=
SERVERS     ?=
ROUNDS      ?= 2000
# The garbage collector takes a quarter of the compiler's time, which is a third of a clean checkout's: with memory to spare
# it runs less often. Compiled commands measure their memory with Go's own setting.
ROOMY       := GOGC=400
# Nothing is found by: the DWARF of tests, which the linker drops; vetting in every test, as make lint vets; the second for
# which the race detector holds each process that ends, beyond a tenth.
# Inlining is a third of the compiler's work and, with the race detector, hardly any of the tests': only Go's own packages have it.
RACE        := $(ROOMY) GORACE="atexit_sleep_ms=100 $$GORACE" CGO_ENABLED=1 $(GO) test -race -trimpath -vet=off -gcflags='all=-dwarf=false -l' -gcflags=std=-dwarf=false
# Pinned, so that the same tree gets the same findings everywhere.
LINTVERSION := v2.15.0
# Outside the tree, so that a clean checkout does not compile it again.
CACHE       := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gancho
GOLANGCI    := $(CACHE)/golangci-lint-$(LINTVERSION)/golangci-lint
NFPMVERSION := v2.43.4
NFPM        := $(CACHE)/nfpm-$(NFPMVERSION)/nfpm
CDXVERSION  := v1.10.0
CYCLONEDX   := $(CACHE)/cyclonedx-gomod-$(CDXVERSION)/cyclonedx-gomod
HELMVERSION := v3.22.0
HELM        := $(CACHE)/helm-$(HELMVERSION)/helm
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what is missing: PostgreSQL, Redis, a C compiler for the race detector, receivers' languages, a browser
	@.ci/deps postgresql redis gcc node python php webhook chromium npm-packages locale

.PHONY: build
build: ## Build the static binary bin/gancho, and bin/gancho-demo beside it
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/gancho ./cmd/gancho-demo

.PHONY: build-all
build-all: build ## Build for Linux, and see that macOS and Windows build too
	CGO_ENABLED=0 GOOS=darwin $(GO) build -o /dev/null ./cmd/gancho
	CGO_ENABLED=0 GOOS=darwin $(GO) build -o /dev/null ./cmd/gancho-demo
	CGO_ENABLED=0 GOOS=windows $(GO) build -o /dev/null ./cmd/gancho

.PHONY: test
test: deps ## Test with the race detector (PKG=./cdc TESTFLAGS='-run Slot')
	$(RACE) -timeout 15m $(TESTFLAGS) $(PKG)

WHOLE       := $(ROOMY) CGO_ENABLED=0 $(GO) test -trimpath -vet=off -timeout 15m

# These packages have many other tests: of them only those.
WHOLEOF      = $(sort internal/api internal/console $(shell grep -rl --include='*_test.go' 'testservers\.Whole' cmd internal cdc mapping delivery | xargs -n1 dirname))
WHOLETESTS   = awk '/^func Test/ { sub(/\(.*/, "", $$2); name = $$2 } /testservers\.(Whole|Sample|Cases)\(/ { print name }' $(WHOLEOF:%=%/*_test.go)

.PHONY: test-whole
test-whole: deps ## Test without the race detector what make test leaves to it: all cases of a sample, what costs much and shows it nothing new
	$(WHOLE) $(TESTFLAGS) ./examples $$(grep -rlE --include='*_test.go' 'testservers\.(Cases|Sample)\(|^//go:build !race' . | xargs -n1 dirname | sort -u | grep -vxF $(WHOLEOF:%=-e ./%))
	$(WHOLE) -run "^($$($(WHOLETESTS) | sort -u | paste -sd'|'))$$" $(TESTFLAGS) $(WHOLEOF:%=./%)

.PHONY: test-examples
test-examples: ## Send to the receivers of examples in all six languages (installs Java and Mono)
	@.ci/deps node python php java mono
	GANCHO_TEST_EXAMPLES=all $(GO) test -vet=off -count=1 $(TESTFLAGS) ./examples

.PHONY: test-cost
test-cost: deps ## List which tests of a package take the processor (PKG=./cmd/gancho), each run alone, servers included
	@GO='$(GO)' .ci/cost $(PKG)

.PHONY: test-matrix
test-matrix: deps ## Test on PostgreSQL 14 to 18, Redis 7 and 8, Valkey 9 (SERVERS='18 redis8'), installed in a cache
	@.ci/matrix $(SERVERS)

.PHONY: test-crash
test-crash: deps ## Kill the bridge, Redis and PostgreSQL ROUNDS (2000) times on Redis 7 and 8 and Valkey 9 (an hour)
	@.ci/crash $(ROUNDS)

.PHONY: lint
lint: $(GOLANGCI) ## Run golangci-lint, import boundaries included (the first run compiles it: minutes)
	$(ROOMY) $(GOLANGCI) run

$(GOLANGCI):
	GOFLAGS= GOBIN=$(@D) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINTVERSION)

.PHONY: fuzz
fuzz: deps ## Run every fuzz target for FUZZTIME (10s) each
	@set -e; $(GO) list -f '{{.Dir}}' $(PKG) | while read -r dir; do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9]*' "$$dir"/*_test.go 2>/dev/null | cut -c6-); do \
			echo "== $$dir $$target"; \
			$(ROOMY) $(GO) test -vet=off -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null; \
		done; \
	done

.PHONY: bench
bench: deps build ## Measure the bridge against a limit taken in the same run, then a rule's evaluation
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 1h ./internal/bench
	$(GO) test -run '^$$' -bench . -benchmem $(TESTFLAGS) ./mapping

.PHONY: bench-console
bench-console: deps ## Measure each page of the console with 10,000 endpoints and ten million attempts, and fifty live tails
	$(GO) test -run '^$$' -bench 'Lists|Tails' -benchtime 1x -timeout 1h ./internal/console

.PHONY: screenshots
screenshots: deps ## Draw each page of the console for docs/console.md
	$(GO) test -count=1 -run 'TestScreenshots' ./internal/console -args -screenshots "$(CURDIR)/docs/console"

.PHONY: microbench
microbench: deps build ## Run every package's own benchmarks
	$(GO) test -run '^$$' -bench . -benchmem $(TESTFLAGS) $(PKG)

.PHONY: demo
demo: ## Build, install what is missing, and watch webhooks arrive (FOR=30s ends it)
	@.ci/deps postgresql redis
	@$(MAKE) --no-print-directory build
	@bin/gancho-demo $(if $(FOR),--for $(FOR))

.PHONY: packages
packages: $(NFPM) ## Make deb and rpm for amd64 and arm64 in bin/packages
	@NFPM=$(NFPM) packaging/packages $(VERSION) bin/packages amd64 arm64

.PHONY: test-packages
test-packages: $(NFPM) ## Install, use, upgrade and remove deb and rpm in a Debian under systemd-nspawn (root, debootstrap; minutes)
	@.ci/deps postgresql redis packages
	@NFPM=$(NFPM) packaging/packages $(VERSION) bin/test-packages/first amd64
	@NFPM=$(NFPM) packaging/packages $(VERSION)-newer bin/test-packages/second amd64
	lintian --fail-on error,warning --allow-root bin/test-packages/first/*.deb
	rpmlint --config packaging/linux/rpmlint.toml bin/test-packages/first/*.rpm
	@packaging/test bin/test-packages/first/*.deb bin/test-packages/second/*.deb bin/test-packages/first/*.rpm bin/test-packages/second/*.rpm

.PHONY: release
release: $(NFPM) $(CYCLONEDX) ## Build for all systems, twice, with packages, SBOM, SHA256SUMS; KEY=<ssh key> signs them
	@NFPM=$(NFPM) CYCLONEDX=$(CYCLONEDX) KEY=$(KEY) packaging/release $(VERSION) bin/release

$(NFPM):
	GOFLAGS= GOBIN=$(@D) $(GO) install github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPMVERSION)

$(CYCLONEDX):
	GOFLAGS= GOBIN=$(@D) $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CDXVERSION)

.PHONY: test-chart
test-chart: $(HELM) ## Lint and render the Helm chart
	@HELM=$(HELM) packaging/helm/test

$(HELM):
	GOFLAGS= GOBIN=$(@D) $(GO) install helm.sh/helm/v3/cmd/helm@$(HELMVERSION)

.PHONY: monitoring
monitoring: ## Write packaging/monitoring from internal/monitoring (RUNBOOKS=https://.../ begins the alerts' links)
	$(GO) test ./internal/monitoring -run TestFiles -count=1 -args -update -runbooks '$(RUNBOOKS)'

.PHONY: test-monitoring
test-monitoring: ## Test the rules with promtool, and each query of the dashboard in a Prometheus that scrapes a bridge (installs Prometheus)
	@.ci/deps postgresql redis prometheus
	promtool check rules packaging/monitoring/gancho.rules.yml
	promtool test rules packaging/monitoring/gancho.cases.yml
	promtool check config deploy/prometheus.yml
	$(GO) test ./cmd/gancho -run TestMonitoring -count=1 -v -args -prometheus "$$(command -v prometheus)"

.PHONY: vuln
vuln: ## Look up the dependencies in Go's vulnerability database
	$(GO) run $(GOVULNCHECK) ./...

.PHONY: licences
licences: ## List the licence of every module that is linked in; DIR=<directory> collects their texts
	@.ci/licences $(DIR)

.PHONY: tidy
tidy: ## Show what `go mod tidy` would change; fails if anything
	$(GO) mod tidy -diff

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin coverage.out
