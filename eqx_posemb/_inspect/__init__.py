"""What `eqx-posemb inspect` says of a configuration."""

from ._run import run as run
