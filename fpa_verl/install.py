"""The commands that install what is missing; README.md, "On 2 x H200", says more of each."""

from __future__ import annotations

# From a clone of the repository.
GPU = "pip install -c constraints-gpu.txt '.[gpu]'"
CPU = "make setup"
# An index has its sources alone; verl keeps a wheel for Python 3.12 and the torch of the extra.
FLASH_ATTENTION = (
    "pip install --no-deps --only-binary :all: --extra-index-url "
    "https://verl-project.github.io/verl-wheelhouse/simple/ flash-attn==2.8.3"
)
