# `make test` needs Rust and nothing else; see the README.

# The exact versions of Cargo.lock in CI; on a developer's machine cargo may update it.
LOCKED := $(if $(CI),--locked)

.PHONY: help test faults bench bench-peers bench-queue-peers bench-cache-peers bench-added bench-metrics-peers rush servers fmt lint doc ci

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' Makefile

test: servers ## Run all tests and doctests against real servers, installing what is missing
	PERF_REQUIRE_SERVERS=1 cargo test --workspace --all-features $(LOCKED)

faults: servers ## Run the queue's processes through a thousand faults on each backend, some minutes each
	PERF_REQUIRE_SERVERS=1 cargo test -p perf-queue --all-features --test it $(LOCKED) -- --ignored --nocapture --test-threads=1 a_thousand_faults

bench: servers ## Run the criterion benches, then print the ratios (JSON in target/ratios.json)
	PERF_REQUIRE_SERVERS=1 cargo bench -p perf-benches --bench '*' $(LOCKED)
	PERF_REQUIRE_SERVERS=1 cargo run --release -p perf-benches --bin ratios $(LOCKED) -- --json target/ratios.json

bench-peers: servers ## Print the ratios of perf-batch with more peers, in a build of its own; options as ARGS="--only batch/sqlite"
	PERF_REQUIRE_SERVERS=1 cargo run --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers $(LOCKED) -- $(ARGS)

bench-queue-peers: servers ## Print the ratios of perf-queue with more peers, likewise
	PERF_REQUIRE_SERVERS=1 cargo run --release --manifest-path benches/queue-peers/Cargo.toml --target-dir target/queue-peers $(LOCKED) -- $(ARGS)

bench-cache-peers: ## Print the ratios of perf-cache's memory tier with more peers, likewise
	cargo run --release --manifest-path benches/cache-peers/Cargo.toml --target-dir target/cache-peers $(LOCKED) -- $(ARGS)

bench-added: ## Print what a request costs through perf-metrics' layer, in nanoseconds and in instructions
	cargo run --release -p perf-benches --bin added $(LOCKED)

bench-metrics-peers: ## Print the ratios of perf-metrics with more peers, likewise
	cargo run --release --manifest-path benches/metrics-peers/Cargo.toml --target-dir target/metrics-peers $(LOCKED) -- $(ARGS)

rush: ## Run the quiz rush, before and after; pass options as ARGS="--quick"
	cargo run --release --bin quiz_rush $(LOCKED) -- $(ARGS)

servers: ## Install Postgres, PgBouncer, Redis and Prometheus where they are missing
	@.ci/servers

fmt: ## Format the code
	cargo fmt --all

lint: ## Check the format, and clippy without warnings
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features $(LOCKED) -- -D warnings

doc: ## Build the documentation without warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps $(LOCKED)

ci: ## Run all that CI runs
	.ci/run
