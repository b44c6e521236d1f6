"""Every published variant, one row each, and how to build it by name."""

from ._make import (
    did_you_mean as did_you_mean,
    make as make,
    variant as variant,
    VARIANTS as VARIANTS,
    variants as variants,
)
from ._variant import Sizes as Sizes, Variant as Variant
