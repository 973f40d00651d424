# Flambeau: everyday commands. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: test soak generate fmt lint bench image image-program reproducible sbom
.PHONY: help demo up down prerequisites upstream programs games operator plugin testbed test-testbed test-scenarios

TESTBED := target/debug/testbed
BUILT := $(or $(CARGO_TARGET_DIR),target)

# What ships is static, so that a program runs anywhere, and is an image by itself. Paths of this machine do not get into
# it: the same sources give the same bytes in any folder. A target folder of its own keeps the flags away from the rest.
# All are built by one call: called one by one, they ask for other features of what they share, which is then compiled
# once for each. ONLY=--bin=NAME builds one of them, with the features of all: its bytes are the same.
STATIC_TARGET := x86_64-unknown-linux-gnu
CARGO_FOLDER := $(or $(CARGO_HOME),$(HOME)/.cargo)
REMAPPED := $(CURDIR)=/flambeau $(CARGO_FOLDER)=/cargo $(abspath $(BUILT))=/target
define build-programs
rustflags="-C target-feature=+crt-static $(REMAPPED:%=--remap-path-prefix=%)"; \
  rustflags+=" --remap-path-prefix=$$(rustc --print sysroot)/lib/rustlib/src/rust=/rust"; \
  RUSTFLAGS="$$rustflags" CFLAGS="$(REMAPPED:%=-ffile-prefix-map=%)" \
  cargo build --release --locked --target $(STATIC_TARGET) \
    --package flambeau-operator --package kubectl-flambeau --package flambeau-games $(ONLY)
endef
IMAGE ?= flambeau.dev/operator:dev
# Whichever is there and answers. STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot lets buildah work where it may not mount.
ENGINE ?= $(firstword $(foreach engine,docker podman buildah,$(shell $(engine) info > /dev/null 2>&1 && echo $(engine))))
# Docker takes the time from the environment.
TIMELESS = $(if $(findstring docker,$(ENGINE)),,--timestamp 0)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: upstream games operator ## Tell the story: a ban, a cluster that dies and comes back, all under load (KEEP=1 leaves the clusters up)
	@cargo build --release $(if $(wildcard target/release/demo),--quiet) --package flambeau-scenarios
	@target/release/demo

up: upstream games $(if $(findstring --without-operator,$(UP)),,operator) ## Bring up four clusters, the edge and the operator (options in UP, see UP=--help)
	@$(TESTBED) up $(UP)

down: testbed ## Stop everything that `make up` started, also after a crash
	@$(TESTBED) down

prerequisites: testbed ## Say what this machine lacks, and install missing packages
	@$(TESTBED) prerequisites

upstream: prerequisites ## Build or fetch Kubernetes, Contour and Envoy, once per version
	@$(TESTBED) upstream

test: upstream games operator ## Pass all tests, against real API servers and real clusters
	@cargo test --workspace --locked --no-fail-fast

soak: upstream games operator ## What takes longer than a change should wait: more seeds, more kills, more that goes wrong
	@SEEDS=100000 cargo test --release --package flambeau-planner --test simulation
	@SOAK=1 cargo test --package flambeau-scenarios --test scenarios -- --include-ignored

generate: ## Write what comes from the types: definitions, their reference, the chart's copies and README
	@cargo run --quiet --package flambeau-crds --bin crdgen crds/generated
	@cargo run --quiet --package flambeau-crds --bin crdgen charts/flambeau/files/crds
	@cargo run --quiet --package flambeau-crds --bin crdgen -- --reference docs/reference/api.md
	@cargo run --quiet --package flambeau-chart --bin chart-readme > target/chart-readme.md
	@mv target/chart-readme.md charts/flambeau/README.md

fmt: ## Format Rust and Go
	@cargo fmt --all && gofmt -w e2e/upstream

lint: ## Warn of what a reviewer would
	@cargo clippy --workspace --all-targets --locked -- --deny warnings

bench: upstream operator ## Measure speed and memory (target/bench/report.json; BENCH_QUICK=1 for a short run)
	@cargo build --release --package flambeau-planner --example throughput
	@cargo build --release --package flambeau-bench
	@target/release/bench

test-testbed: upstream games operator ## Crash and recover the testbed itself (takes a running one down)
	@cargo test --package flambeau-testbed --test whole -- --ignored --nocapture

test-scenarios: upstream games operator ## Try what goes wrong in the world, once (half an hour; some of it with SCENARIOS=name)
	@cargo test --package flambeau-scenarios --test scenarios -- --include-ignored $(SCENARIOS)

testbed:
	@cargo build $(if $(wildcard $(TESTBED)),--quiet) --package flambeau-testbed

operator: image-program plugin ## Build the operator and kubectl-flambeau

plugin: programs ## Build kubectl-flambeau, one static program: put it on the PATH, and kubectl finds it
	@echo "target/$(STATIC_TARGET)/release/kubectl-flambeau"

image: image-program ## Build the operator's image (IMAGE=name:tag, ENGINE=docker, podman or buildah)
	@[[ -n "$(ENGINE)" ]] || { echo "none of docker, podman and buildah answers to 'info'; name one with ENGINE="; exit 1; }
	@SOURCE_DATE_EPOCH=0 $(ENGINE) build $(TIMELESS) --tag $(IMAGE) --file Containerfile $(BUILT)/image
	@echo "$(IMAGE), built by $(ENGINE)"

image-program: programs
	@rm -rf $(BUILT)/image && mkdir -p $(BUILT)/image
	@install -m 0755 $(BUILT)/$(STATIC_TARGET)/release/flambeau-operator $(BUILT)/image/
	@touch --date=@0 $(BUILT)/image/flambeau-operator
	@size=$$(stat --format=%s $(BUILT)/image/flambeau-operator); \
	  echo "flambeau-operator: $$((size / 1000000)) MB, $$(sha256sum < $(BUILT)/image/flambeau-operator | head -c 64)"; \
	  [[ $$size -lt 25000000 ]] || { echo "larger than 25 MB: what came in?"; exit 1; }

reproducible: image-program ## Build the image's program once more, in another folder, and compare
	@folder=$$(mktemp --directory) && trap "rm -rf $$folder" EXIT && \
	  tar --create --exclude=./target --exclude=./.git . | tar --extract --directory $$folder && \
	  env --unset=CARGO_TARGET_DIR $(MAKE) --silent --directory $$folder image-program ONLY=--bin=flambeau-operator && \
	  cmp $(BUILT)/image/flambeau-operator $$folder/target/image/flambeau-operator && \
	  echo "the same bytes in two folders"

sbom: ## Write what is built into the operator, as CycloneDX (target/sbom)
	@.ci/sbom

games: programs

programs:
	@$(build-programs)
