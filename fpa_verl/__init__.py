"""FPA-weighted offline RL and verl's own GRPO on the same footing.

Importing this package is cheap and pulls in neither verl nor torch:

- `fpa_verl.objectives`: the mathematics, plain torch.
- `fpa_verl.rollouts`: the static rollout dataset.
- `fpa_verl.integration`: what verl loads (entry point group ``verl.plugins``).
- `fpa_verl.report`: accuracy per GPU-hour from run directories.
"""

__version__ = "0.1.0"
