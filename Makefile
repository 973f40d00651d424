# Flambeau: everyday commands. `make help` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up down operator games testbed

TESTBED := target/debug/testbed
# Static, so that it is an image by itself; its own target folder keeps the flag away from everything else.
IMAGE_TARGET := x86_64-unknown-linux-gnu

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: testbed games operator ## Bring up four clusters, the edge and the operator
	@$(TESTBED) up

down: testbed ## Stop everything that `make up` started
	@$(TESTBED) down

testbed:
	@cargo build --quiet --package flambeau-testbed

operator:
	@cargo build --release --package flambeau-operator

games:
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --package flambeau-games --target $(IMAGE_TARGET)
