# Thin recipes: what they do stands in hack/, and CI calls the same scripts.

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench deps lab lab-down

help: ## list the recipes
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 18

run: ## build, start the ingress on examples/quickstart, and say what to try
	@hack/run

test: ## install what is missing and run every test
	@hack/test

lint: ## format, clippy, licences, documentation
	@hack/lint

fmt: ## format the code
	@cargo fmt --all

bench: ## compare with nginx, side by side
	@hack/bench

deps: ## install what the other recipes need
	@hack/deps

lab: ## start the announcer's lab of network namespaces
	@hack/deps build
	@cargo build --profile quick --package landfall-lb-announcer
	@e2e/lab/lab.sh up

lab-down: ## remove it
	@e2e/lab/lab.sh down
