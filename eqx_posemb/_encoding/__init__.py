"""Encodings: vectors that are added to the tokens."""

from ._abstract import AbstractEncoding as AbstractEncoding
from ._learned import Learned as Learned
from ._resize import Method as Method, resize as resize
from ._sinusoidal import Sinusoidal as Sinusoidal
