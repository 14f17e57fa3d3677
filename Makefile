# make run     builds, sets up in ./run, serves on port 13431
# make test    installs what the tests need, checks the code, runs all tests
# make lint    formatting, go vet, staticcheck, govulncheck
# make bench   measures and prints a table
# make scorecard measures what docs/scorecard.md lists and make test has no time for
# make fuzz    runs every fuzz target for FUZZTIME each
# make docs    writes the generated parts of the documentation
# make release builds what is released into dist: programs, packages, SBOMs, digests

GO       ?= go
BASEDIR  ?= run
FUZZTIME ?= 1m
# How often each fuzz target runs in make test, beside the inputs in testdata.
FUZZTRIES ?= 300x
# A folder with the Go vulnerability database, for machines without network.
VULNDB   ?=

.PHONY: build run test lint bench scorecard fuzz docs release clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/authnzrv ./cmd/authnzrv

run: build
	@test -e $(BASEDIR)/.env || bin/authnzrv --autosetup --basedir=$(BASEDIR) </dev/null
	exec bin/authnzrv --envfile=$(BASEDIR)/.env

test: lint
	scripts/test-requirements
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 75m ./...
	scripts/fuzz $(FUZZTRIES)

lint:
	$(GO) mod verify
	scripts/lint
	scripts/vulnerabilities "$(VULNDB)"

bench: build
	scripts/test-requirements
	bin/authnzrv bench
	$(GO) run ./test/bench -server bin/authnzrv

scorecard: build
	scripts/test-requirements
	$(GO) run ./test/scorecard -server bin/authnzrv -append docs/scorecard.jsonl
	$(GO) test -count=1 -timeout 3h ./test -figures=$(CURDIR)/docs/scorecard.jsonl \
		-run 'TestKilled|TestDatabaseRestarts|TestModel|TestPowerLoss|TestRotation|TestEachMessage' \
		-kills=200 -restarts=60 -restartevery=10s -modelsteps=3000 -images=10000 -rotations=10
	$(GO) test -count=1 -timeout 8h ./test -figures=$(CURDIR)/docs/scorecard.jsonl -run TestLinearizable -histories=334
	$(GO) test -count=1 -timeout 12h ./test -figures=$(CURDIR)/docs/scorecard.jsonl -run 'TestFailingSystemCalls|TestSoak' \
		-databases=sqlite -failedcalls=40 -soak=8h
	scripts/mutants

fuzz:
	scripts/fuzz $(FUZZTIME)

docs:
	$(GO) test ./api ./internal/config -run 'Reference' -update

release:
	scripts/release

clean:
	rm -rf bin dist
