# What people do in a checkout. `make` lists it; every target first sees to .venv (nothing to do when it is current).
.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
MAKEFLAGS += --no-print-directory

.PHONY: help setup demo demo-down demo-auth test lint sanity units scenarios bench docs lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with Ansible, Molecule and the linters
	@scripts/bootstrap
