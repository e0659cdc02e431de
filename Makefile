# Everything that people and machines do with this repository; `make` alone lists it.
# Needs Go (the version of go.mod) and make; the servers and the C compiler are installed by `make deps`.

SHELL       := /bin/sh
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FOR         ?=
FUZZTIME    ?= 10s
PKG         ?= ./...
TESTFLAGS   ?=
# Pinned, so that the same tree gets the same findings everywhere.
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.8.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what is missing: PostgreSQL, Redis, a C compiler for the race detector
	@.ci/deps postgresql redis gcc

.PHONY: build
build: ## Build the static binary bin/gancho
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/gancho ./cmd/gancho

.PHONY: test
test: deps ## Vet and test everything with the race detector (PKG=./cdc TESTFLAGS='-run Slot')
	$(GO) vet $(PKG)
	CGO_ENABLED=1 $(GO) test -race -timeout 15m $(TESTFLAGS) $(PKG)

.PHONY: lint
lint: ## Run golangci-lint, import boundaries included (the first run compiles it: minutes)
	$(GO) run $(GOLANGCI) run

.PHONY: fuzz
fuzz: deps ## Run every fuzz target for FUZZTIME (10s) each
	@set -e; list=$$($(GO) test -list '^Fuzz' $(PKG)); \
	echo "$$list" | awk '/^Fuzz/ { f[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, f[i]; n = 0 }' | \
	while read -r pkg target; do \
		echo "== $$pkg $$target"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null; \
	done

.PHONY: bench
bench: deps build ## Measure the bridge against a limit taken in the same run, then a rule's evaluation
	$(GO) run ./internal/bench
	$(GO) test -run '^$$' -bench . -benchmem $(TESTFLAGS) ./mapping

.PHONY: microbench
microbench: deps ## Run every package's own benchmarks
	$(GO) test -run '^$$' -bench . -benchmem $(TESTFLAGS) $(PKG)

.PHONY: demo
demo: ## Build, install what is missing, and watch webhooks arrive (FOR=30s ends it by itself)
	@.ci/deps postgresql redis
	@$(MAKE) --no-print-directory build
	@bin/gancho demo $(if $(FOR),--for $(FOR))

.PHONY: vuln
vuln: ## Look the dependencies up in Go's vulnerability database
	$(GO) run $(GOVULNCHECK) ./...

.PHONY: tidy
tidy: ## Show what `go mod tidy` would change; fails if anything
	$(GO) mod tidy -diff

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin coverage.out
