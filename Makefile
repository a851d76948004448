# What people do in a checkout. `make` lists it; what needs Python tools sees to .venv first, which takes no time when it is current.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Images of Python for containers set them. Each start of Ansible, pytest or Molecule would compile its code anew, and each module be read byte by byte.
unexport PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED

.PHONY: help setup demo demo-down demo-auth rehearse rehearse-down test lint sanity units live google scenarios bench docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with Ansible, Molecule and the linters
	@scripts/bootstrap

demo: setup ## Install the whole of it in four containers on this machine
	@scripts/demo up

demo-down: setup ## Remove the demo
	@scripts/demo down

demo-auth: setup ## Show how to log in to the demo
	@scripts/demo auth

rehearse: setup ## Roll your variables for Google Cloud out on a local one: PROJECT=my-project
	@scripts/rehearse up

rehearse-down: setup ## Remove the rehearsal
	@scripts/rehearse down

test: setup ## Run all the tests
	@scripts/tests

lint: setup ## Check the style and the types
	@scripts/lint

sanity: setup ## Run ansible-test sanity
	@scripts/ansible-test sanity

units: setup ## Run the unit tests
	@scripts/ansible-test units

live: setup ## Run the modules against real Prefect servers
	@pytest tests/live

google: setup ## Run what is for Google Cloud against a local one
	@pytest --numprocesses=2 --dist=loadgroup tests/live_gcp tests/local_gcp/tests

scenarios: setup ## Run the Molecule scenarios in Docker
	@scripts/tests scenarios

bench: setup ## Measure the server, the proxy and the playbooks
	@scripts/bench

docs: setup ## Make the reference from the code
	@scripts/docs

lock: setup ## Make the locks of Prefect and of the tools anew
	@scripts/lock

clean: ## Remove what is made here: .venv, build and the tests' output
	@rm -rf .venv build tests/output
