# Everything starts here: `make kitchen` runs the main job, `make test` the tests. Both set up what is missing first.
# HEADLESS=1 leaves out the window and its renderer, which halves the first build: for machines that only train.
# CUDA=1 lets learners compute on an NVIDIA graphics processor; needs the compiler of the CUDA toolkit.

CARGO ?= cargo
FEATURES := $(strip $(if $(HEADLESS),--no-default-features) $(if $(CUDA),--features cuda))

.DEFAULT_GOAL := help
.PHONY: help setup build kitchen watch test release-check

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## fetch MuJoCo, the robot models and, if missing, CMake into .deps
	@./setup

build: setup ## build the program; HEADLESS=1 without its window, CUDA=1 with learning on a graphics processor
	$(CARGO) build --locked $(FEATURES)

kitchen: build ## learn the kitchen from demonstrations to the finished agent; QUICK=1 for a three-minute run
	$(CARGO) run --locked --quiet $(FEATURES) -- learn kitchen/spirl_cl $(if $(CUDA),device=cuda) $(if $(QUICK),--quick)

watch: build ## see the agents of `make kitchen` act, in a window
	$(CARGO) run --locked --quiet $(FEATURES) -- watch runs/kitchen_spirl_cl$(if $(QUICK),_quick) --evaluate

test: setup ## formatting, lints, documentation and all tests
	$(CARGO) fmt --check
	$(CARGO) clippy --locked $(FEATURES) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked $(FEATURES) --no-deps
	$(CARGO) test --locked $(FEATURES)

release-check: test ## besides the tests, licences and known vulnerabilities of everything the program is built from
	$(CARGO) deny --locked check
