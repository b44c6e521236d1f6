"""The experiment behind `eqx-posemb compare`: which embeddings outlast their length."""

from ._run import run as run
