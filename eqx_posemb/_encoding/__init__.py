"""The first place: added to the tokens."""

from ._abstract import AbstractEncoding as AbstractEncoding
from ._axial import AxialLearned as AxialLearned
from ._box import LearnedBox as LearnedBox
from ._fourier import Fourier as Fourier, GaussianFourier as GaussianFourier
from ._from_state import (
    learned_from_state_dict as learned_from_state_dict,
    learned_grid_from_state_dict as learned_grid_from_state_dict,
)
from ._learned import Learned as Learned
from ._learned_fourier import LearnedFourier as LearnedFourier
from ._learned_grid import LearnedGrid as LearnedGrid
from ._resize import Method as Method, resize as resize
from ._scaled_sinusoidal import ScaledSinusoidal as ScaledSinusoidal
from ._sinusoidal import Sinusoidal as Sinusoidal
from ._sinusoidal_grid import SinusoidalGrid as SinusoidalGrid
