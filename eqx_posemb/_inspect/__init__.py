"""What `eqx-posemb inspect` says of a configuration."""

from ._facts import facts_of as facts_of
from ._run import chosen as chosen, refused as refused, run as run
