# Thin recipes: what they do stands in hack/, and CI calls the same scripts.

.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench bench-quick growth abuse deps lab lab-down cluster cluster-down e2e images

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

bench: ## compare with nginx, HAProxy and Caddy, side by side; the report is target/bench/bench.md
	@hack/bench --rounds 5 --seconds 2 --latencies --pingora --report "$${CARGO_TARGET_DIR:-target}/bench"

bench-quick: ## the same in three minutes, without latencies
	@hack/bench --rounds 3

growth: ## measure the control plane with 50 to 50,000 Ingresses at a real API server
	@hack/growth

abuse: ## attack the release build beside nginx and HAProxy, and look at memory and at others' service
	@hack/abuse

deps: ## install what the other recipes need
	@hack/deps

images: ## make the images of both programs, as OCI archives
	@hack/images

lab: ## start the announcer's lab of network namespaces (root)
	@LANDFALL_LB_ANNOUNCER=$$(hack/build quick)/landfall-lb-announcer e2e/lab/lab.sh up

lab-down: ## remove it
	@e2e/lab/lab.sh down

cluster: ## start a real cluster of network namespaces (root)
	@hack/e2e up

cluster-down: ## remove it
	@hack/e2e down

e2e: ## run every scenario in full on clusters of its own (root)
	@hack/e2e
