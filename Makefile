# `make help` lists the commands. They use the environment in `.venv`.
BIN ?= .venv/bin

# The tests keep compiled programs there for the next run.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache

.DEFAULT_GOAL := help
.PHONY: help quick full lint docs tables

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

quick: ## run a subset of the tests in about a minute
	$(BIN)/pytest

full: ## run all tests
	$(BIN)/pytest --all -n 2

lint: ## check the format, the style and the types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: ## build the site in site/, which needs the extra `docs`
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tables: ## write the tables of variants from the registry
	$(BIN)/python docs/tables.py
