# Each target installs what it needs and the machine lacks (envoy/setup), so rustup's Rust is enough to start.

SIMD ?= 1
PORT ?= 10000
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
WASM := $(TARGET_DIR)/portcullis_http.wasm
WASM_RESPONSE := $(TARGET_DIR)/portcullis_http_response.wasm
CORE := $(TARGET_DIR)/portcullis_core.wasm
FLOOR := $(TARGET_DIR)/portcullis_floor.wasm
ENVOY := $(CURDIR)/.tools/bin/envoy
CORPORA := $(or $(PORTCULLIS_CORPORA),$(wildcard $(CURDIR)/../shared/corpora))
# Has V8 spend a good third of the time on a module, see filters/link.
LINK := cargo run --quiet -p portcullis-link --
PORTCULLIS := cargo run --quiet -p portcullis-harness --bin portcullis --
# What the tests need to know; without PORTCULLIS_CORPORA the tests over labelled traffic say that they skip.
TEST_ENV := PORTCULLIS_WASM=$(WASM) PORTCULLIS_WASM_RESPONSE=$(WASM_RESPONSE) PORTCULLIS_CORE=$(CORE) PORTCULLIS_ENVOY=$(ENVOY) $(if $(CORPORA),PORTCULLIS_CORPORA=$(CORPORA))

.PHONY: help core image run demo test e2e lint wasm wasm-response eval fleet setup setup-rust setup-envoy setup-tools setup-fleet setup-bench setup-peers bench bench-quick bench-accept bench-envoy bench-limits floor peers
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: wasm setup-envoy ## Envoy with the filter on 127.0.0.1:10000 (PORT=), demo traffic, alerts as they come, until Ctrl-C
	@$(PORTCULLIS) demo --envoy $(ENVOY) --wasm $(WASM) --port $(PORT)

demo: wasm setup-envoy ## the same, but ends by itself and fails if an expected alert is missing
	@$(PORTCULLIS) demo --once --envoy $(ENVOY) --wasm $(WASM) --port $(PORT)

test: wasm wasm-response core setup-envoy setup-tools setup-fleet ## everything: unit tests, rule cases, the filter in a real Envoy, real tools, the demo
	cargo fmt --all --check
	$(TEST_ENV) cargo test --workspace
	@# The command that the tests were built with.
	@$(TARGET_DIR)/debug/portcullis rules test rules rules/optional rules/response
	@$(TARGET_DIR)/debug/portcullis rules test --engine wasm --filter $(WASM) rules
	@$(TARGET_DIR)/debug/portcullis rules test --engine wasm --filter $(WASM_RESPONSE) rules rules/response
	@# Any free port: whatever listens on the demo's own must not fail the tests.
	@$(TARGET_DIR)/debug/portcullis demo --once --envoy $(ENVOY) --wasm $(WASM) --port 0

e2e: wasm wasm-response core setup-envoy setup-tools ## only the tests over several rooms: the filter in the real Envoy, with real tools driven against it
	$(TEST_ENV) cargo test -p portcullis-tests

lint: setup-rust ## rustfmt and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

wasm: setup-rust ## the filter as target/portcullis_http.wasm (SIMD=0: without simd128)
	@RUSTFLAGS='$(if $(filter 1,$(SIMD)),-C target-feature=+simd128)' cargo build -p portcullis-http --profile wasm --target wasm32-unknown-unknown
	@$(LINK) $(TARGET_DIR)/wasm32-unknown-unknown/wasm/portcullis_http.wasm $(WASM)
	@echo "$(WASM): $$(wc -c <$(WASM)) bytes, simd128 $(if $(filter 1,$(SIMD)),on,off)"

wasm-response: setup-rust ## the same for rules about the status, as target/portcullis_http_response.wasm
	@RUSTFLAGS='$(if $(filter 1,$(SIMD)),-C target-feature=+simd128)' cargo build -p portcullis-http --features response --profile wasm --target wasm32-unknown-unknown
	@$(LINK) $(TARGET_DIR)/wasm32-unknown-unknown/wasm/portcullis_http.wasm $(WASM_RESPONSE)
	@echo "$(WASM_RESPONSE): $$(wc -c <$(WASM_RESPONSE)) bytes"

core: setup-rust ## target/portcullis_core.wasm, for hosts without metrics, timers and shared data: it imports seven functions
	@RUSTFLAGS='$(if $(filter 1,$(SIMD)),-C target-feature=+simd128)' cargo build -p portcullis-http --no-default-features --profile wasm --target wasm32-unknown-unknown
	@$(LINK) $(TARGET_DIR)/wasm32-unknown-unknown/wasm/portcullis_http.wasm $(CORE)
	@echo "$(CORE): $$(wc -c <$(CORE)) bytes"

image: wasm ## the filter as OCI image layouts in target/image, in each form that Istio and Envoy Gateway fetch (TAG=)
	@$(PORTCULLIS) image --filter $(WASM) --output $(TARGET_DIR)/image $(if $(TAG),--tag $(TAG))

PAGE := $(TARGET_DIR)/playground/index.html
CHROMIUM := $(or $(PORTCULLIS_CHROMIUM),$(shell command -v chromium || command -v chromium-browser || command -v google-chrome || echo /usr/bin/chromium))
TEST_ENV += PORTCULLIS_PLAYGROUND=$(PAGE) PORTCULLIS_CHROMIUM=$(CHROMIUM)
.PHONY: playground setup-browser
test e2e: playground setup-browser
setup: setup-browser

playground: setup-rust ## the engine in a page of its own, to open from disk: target/playground/index.html
	@RUSTFLAGS='-C target-feature=+simd128' cargo build -p portcullis-playground --profile wasm --target wasm32-unknown-unknown
	@cargo run --quiet --manifest-path playground/pack/Cargo.toml --target-dir $(TARGET_DIR)/pack -- \
		$(TARGET_DIR)/wasm32-unknown-unknown/wasm/portcullis_playground.wasm playground/page $(PAGE)

setup-browser:
	@envoy/setup browser

fleet: setup-rust setup-fleet ## correlations over the alerts of several gateways, one file each (ALERTS='a.json b.json')
	@$(if $(ALERTS),.tools/fleet/bin/python fleet/correlate.py $(ALERTS),cargo test --quiet -p portcullis-harness --test fleet)

ROUNDS ?= 200000
.PHONY: fuzz
fuzz: wasm ## bodies and rule files at random, for longer than `make test` does (ROUNDS=)
	PORTCULLIS_FUZZ_ROUNDS=$(ROUNDS) PORTCULLIS_WASM=$(WASM) cargo test -p portcullis-tests --test fuzz -- --nocapture
	PORTCULLIS_FUZZ_ROUNDS=$(ROUNDS) cargo test -p portcullis-compiler --test hostile -- --nocapture

eval: wasm ## recall and false positives over labelled traffic (PORTCULLIS_CORPORA=DIR, EVAL=--misses), and over its processes
	@cargo run --quiet --release -p portcullis-harness --bin portcullis -- eval --not-attacks tests/corpora/not-attacks.csv $(EVAL) $(CORPORA)
	@# The filter sees no processes, the engine alone does.
	@$(if $(wildcard $(CORPORA)/proc-*),cargo run --quiet --release -p portcullis-harness --bin portcullis -- eval --engine native $(EVAL) $(wildcard $(CORPORA)/proc-*))

peers: wasm setup-peers ## the same beside nginx with ModSecurity and the Core Rule Set, levels 1 and 2 (PEERS=--only-theirs)
	@cargo run --quiet --release -p portcullis-harness --bin portcullis -- peers $(PEERS) $(CORPORA)

bench: wasm floor setup-envoy setup-bench ## what the filter costs Envoy, beside the least possible, Lua and ModSecurity (BENCH=--quick)
	@cargo run --quiet --release -p portcullis-harness --bin portcullis -- bench --envoy $(ENVOY) --wasm $(WASM) --floor $(FLOOR) $(BENCH)

bench-quick: wasm ## wasm instructions of a request against bench/baseline.json, fails on 3 % more; and the worst requests
	@$(PORTCULLIS) bench quick --wasm $(WASM) --baseline bench/baseline.json $(BENCH)

bench-accept: ## what a request takes now is the new baseline
	@$(MAKE) --no-print-directory bench-quick BENCH=--accept

bench-envoy: wasm floor setup-envoy setup-bench ## instructions of the real Envoy; fails if the filter adds over 1.3 times what the floor adds
	@$(PORTCULLIS) bench --envoy $(ENVOY) --wasm $(WASM) --floor $(FLOOR) --only bcg --rounds 0 --times-floor 1.3

bench-limits: wasm floor setup-envoy ## curves over rules, routes and sources; a search for the worst request; load time and memory; a soak, also of a real Envoy
	@for part in curve worst start soak soak-envoy; do \
	  cargo run --quiet --release -p portcullis-harness --bin portcullis -- bench $$part --envoy $(ENVOY) --wasm $(WASM) --floor $(FLOOR) $(BENCH) || exit 1; \
	done

floor: setup-rust
	@RUSTFLAGS='-C target-feature=+simd128' cargo build --quiet -p portcullis-floor --profile wasm --target wasm32-unknown-unknown
	@cp $(TARGET_DIR)/wasm32-unknown-unknown/wasm/portcullis_floor.wasm $(FLOOR)

setup: setup-rust setup-envoy setup-tools setup-fleet ## install everything that is missing

setup-rust setup-envoy setup-tools setup-fleet setup-bench setup-peers:
	@envoy/setup $(@:setup-%=%)
