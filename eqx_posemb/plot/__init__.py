"""Pictures of positional embeddings, for papers and slides. Needs Matplotlib."""

from ._decay import decay as decay
from ._extrapolation import extrapolation as extrapolation
from ._maps import bias as bias, similarity as similarity
from ._schedules import schedule as schedule, wavelengths as wavelengths
