# What a person types; .ci/run calls the same. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir
# Compiled dependencies live outside the checkout, so that a clean one does not compile the engine again.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export WEIR_CACHE := $(CACHE)

.PHONY: help run test build handlers wasm-target tools soak bench clean-run

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: build handlers ## Serve the sample weir.toml, publish the sample events and show their mails; Ctrl-C stops
	@.ci/sample

test: wasm-target tools ## Install what the tests need and run them all; at the end, what each queue adapter passed
	@matrix=$$(mktemp); WEIR_MATRIX=$$matrix cargo test --locked --workspace; status=$$?; .ci/matrix $$matrix; rm -f $$matrix; exit $$status

soak: wasm-target tools ## A hundred thousand events through each broker, with a restart and a kill (minutes each)
	WEIR_TEST_EVENTS=100000 cargo test --locked -p weir-tests --test soak -- --nocapture

build: ## Build the server: bin/weir
	cargo build --locked --release -p weir-runtime --bin weir
	@mkdir -p bin && ln -sfn "$(CARGO_TARGET_DIR)/release/weir" bin/weir

handlers: wasm-target ## Build the shipped handlers to handlers/*.wasm
	env $$(.ci/wasm-env) cargo build --locked --profile guest --target wasm32-wasip2 -p email-notifier -p webhook-notifier
	@.ci/place "$(CARGO_TARGET_DIR)/wasm32-wasip2/guest/email_notifier.wasm" handlers/email-notifier.wasm
	@.ci/place "$(CARGO_TARGET_DIR)/wasm32-wasip2/guest/webhook_notifier.wasm" handlers/webhook-notifier.wasm

wasm-target: ## Get the Rust target for handlers
	@.ci/wasm-target

# A broker that can't be had (NSQ needs Go, Kafka a JDK and Maven, RabbitMQ 4 root) leaves its tests ignored, by name; in CI it is a failure.
tools: ## Get what the tests need: a Rust target, and servers (mail, Redis, Mosquitto, NATS, NSQ, Kafka, RabbitMQ)
	@.ci/wasm-target --tests
	@tests/servers/get-smtp.sh
	@tests/servers/get-redis.sh
	@for broker in mosquitto nats nsq kafka rabbitmq; do \
		tests/servers/get-$$broker.sh || { echo "no $$broker here: its tests are ignored, by name"; [ "$$CI" != true ]; } || exit 1; \
	done

bench: build wasm-target ## Measure this machine: engine, sandbox, whole path; then the pieces
	env $$(.ci/wasm-env) cargo build --locked --profile guest --target wasm32-wasip2 -p bench-handler
	@if command -v redis-server >/dev/null; then .ci/with-redis bin/weir bench; else echo "no redis-server here: measured without it"; bin/weir bench; fi
	bin/weir bench --component "$(CARGO_TARGET_DIR)/wasm32-wasip2/guest/bench_handler.wasm"
	cargo bench --locked -p weir-runtime

clean-run: ## Remove what `make run` leaves
	rm -rf .weir data outbox
