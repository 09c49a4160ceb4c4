# Targets with a comment after ## are listed by `make`.
# One recipe shell everywhere, so that a pipe fails when its first command does.
SHELL := /bin/bash

BIN   := bin
TOOLS := .tools/bin

.DEFAULT_GOAL := help
.PHONY: help demo test unit race e2e e2e-hold e2e-k8s lint-k8s mutants build lint generate k8s-render image fuzz bench conformance interop screenshots check tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

demo: build ## run the guide's gateway here and show who may do what (ONCE=1: end after the table; LISTEN=host:port)
	@$(BIN)/demo $(if $(ONCE),-once) $(if $(LISTEN),-listen $(LISTEN))

test: unit e2e ## everything that proves it, real Envoy included

unit: ## the tests of all packages, without the stories of e2e
	@set -e; all=$$(go list ./...); go test $$(grep -v '/e2e' <<<"$$all")

# The race detector needs cgo and so a C compiler. The stories of e2e run built binaries, where it would see nothing.
race: ## the tests of all packages under the race detector; needs a C compiler
	@set -e; if ! command -v $${CC:-gcc} >/dev/null; then \
	  printf '\n*** NOT RUN, so not proven here: no data race in any package. The race detector needs a C compiler (apt-get install gcc).\n\n'; exit 0; fi; \
	  all=$$(go list ./...); CGO_ENABLED=1 go test -race $$(grep -v '/e2e' <<<"$$all")

# Never from the cache: the stories run binaries, and the cache does not know what those were built from. Those that run
# beside others mostly wait for a clock of the product.
e2e: ## the stories of e2e on real Envoy (RUN=regexp: some of them)
	@mkdir -p .run
	set -o pipefail; go test -count=1 -parallel 4 -timeout 15m -v ./e2e $(if $(RUN),-run '$(RUN)') 2>&1 | tee .run/e2e.txt
	@if grep -q '^ *--- SKIP' .run/e2e.txt; then \
	  echo; echo '*** SKIPPED, so not proven here:'; grep -A1 '^ *--- SKIP' .run/e2e.txt; fi

e2e-hold: ## the stories RUNS=20 times, every other time on a busy machine, until one fails (RUN=regexp: some of them)
	@tools/hold $(or $(RUNS),20) $(if $(RUN),'$(RUN)')

e2e-k8s: ## what we ship on a real Kubernetes API server, the operator on it, and all of it on a real node (root; Kubernetes is built once, 12 minutes, 3 GB of memory, and kept outside of the clone)
	@set -e; programs=$$(tools/kube); VMCP_KUBE=$$programs go test -count=1 -v ./e2e/kube; \
	  cd services/operator && KUBEBUILDER_ASSETS=$$programs go test -count=1 . ./internal/... ./chart
	@mkdir -p .run; set -o pipefail; tools/e2e-node 2>&1 | tee .run/e2e-node.txt

lint-k8s: tools ## vet and staticcheck of the operator, which has a module of its own
	cd services/operator && go vet ./... && ../../$(TOOLS)/staticcheck ./...

# What decides, and what reads what is decided about.
MUTANTS := internal/decision internal/token internal/policy internal/mcpwire services/authz/internal/extauthz services/authserver/internal/oauth

mutants: tools ## change one operator at a time and see a test fail, an hour or more (PKG=folder: of one package)
	@cd tools && go build -o ../$(TOOLS)/mutants ./mutants
	@$(TOOLS)/mutants $(or $(PKG),$(MUTANTS))

build: ## build the services, vmcp, the demo and its MCP servers to bin/
	go build -o $(BIN)/ ./cmd/... ./services/... ./internal/mcptest/cmd/...

lint: tools ## gofmt, vet, staticcheck, govulncheck, buf, the manifests, and whether generated code is current
	@set -e; unformatted=$$(gofmt -l *.go */); \
	  if [ -n "$$unformatted" ]; then echo "not formatted, run gofmt -w:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	cd tools && go vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/buf lint
	@rm -rf .run/generated; $(TOOLS)/buf generate -o .run/generated
	@diff -r -x '*.proto' .run/generated/proto proto || { echo 'generated code is not current: run make generate'; exit 1; }
	@mkdir -p .run; $(MAKE) --no-print-directory k8s-render >.run/k8s.yaml
	@tools/govulncheck $(TOOLS)/govulncheck ./...

generate: tools ## write the Go code of proto/ anew
	$(TOOLS)/buf generate

k8s-render: $(TOOLS)/.built ## print the Kubernetes manifests of deploy/k8s/base
	@$(TOOLS)/kustomize build deploy/k8s/base

image: ## build the container images of the services, with docker or podman (TAG=dev)
	@engine=$$(command -v docker || command -v podman) && $$engine info >/dev/null 2>&1 || { \
	  echo 'no container engine answers here (docker or podman); deploy/images/services.Dockerfile says what it would build'; exit 1; }; \
	for service in authz authserver aggregator bridge operator; do \
	  $$engine build -f deploy/images/services.Dockerfile --target $$service --build-arg VERSION=$(or $(TAG),devel) -t vmcp-$$service:$(or $(TAG),dev) . || exit 1; done

fuzz: ## fuzz every parser and matcher (FUZZTIME=30s: how long each)
	@tools/fuzz $(or $(FUZZTIME),30s)

bench: build ## direct calls against calls through the whole chain: time, CPU, memory (BENCH='-run call -t 1s')
	go run ./bench -bin $(BIN) $(BENCH)
	@if [ -z "$(BENCH)" ]; then echo; echo 'one core: sign-ins and refreshes at a simulated Entra, decisions with 5, 100 and 1,000 policies'; \
	  go test -run '^$$' -cpu 1 -bench 'Login|Refresh' ./services/authserver/internal/oauth && \
	  go test -run '^$$' -cpu 1 -bench 'Check' ./services/authz/internal/extauthz; fi

conformance: ## the official MCP server scenarios through the whole chain, against docs/conformance.md; needs Node
	go test -count=1 -timeout 15m -v ./e2e -run TestConformance -conformance

interop: ## real servers and clients of npm, PyPI and Go through one gateway, against docs/interop.md; needs Node and Python (UPDATE=1 writes it)
	go test -count=1 -timeout 15m -v ./e2e -run TestInterop -interop $(if $(UPDATE),-interop-update)

screenshots: ## write pictures of the sign-in pages to docs/screenshots; needs Node and Chromium
	go test -count=1 -v ./e2e -run TestChromium -screenshots docs/screenshots

check: lint test race ## what should pass before a change is sent

# The tools have a module of their own and are built for lint and generate only; the first time takes minutes.
tools: $(TOOLS)/.built
$(TOOLS)/.built: tools/go.mod tools/go.sum
	@echo "building the tools of tools/go.mod to $(TOOLS), some minutes" >&2
	@cd tools && go build -o ../$(TOOLS)/ tool
	@touch $@
