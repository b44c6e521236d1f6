"""The first place: added to the tokens."""

from ._abstract import AbstractEncoding as AbstractEncoding
from ._learned import Learned as Learned
from ._learned_grid import LearnedGrid as LearnedGrid
from ._sinusoidal import Sinusoidal as Sinusoidal
from ._sinusoidal_grid import SinusoidalGrid as SinusoidalGrid
