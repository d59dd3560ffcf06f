# Everything starts here: `make kitchen` runs the main job, `make test` the tests. Both set up what is missing first.
# The headless build (--no-default-features) is all they need; it leaves out the window and its renderer.

CARGO ?= cargo
HEADLESS := --no-default-features

.DEFAULT_GOAL := help
.PHONY: help setup build kitchen test

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## fetch MuJoCo, the robot models and, if missing, CMake into .deps
	@./setup

build: setup ## build the headless program
	$(CARGO) build --locked $(HEADLESS)

kitchen: build ## learn the kitchen from demonstrations to the finished agent; QUICK=1 for a three-minute run
	$(CARGO) run --locked --quiet $(HEADLESS) -- learn kitchen/spirl_cl $(if $(QUICK),--quick)

test: setup ## formatting, lints, documentation and all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked $(HEADLESS) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked $(HEADLESS) --no-deps
	$(CARGO) test --locked $(HEADLESS)
