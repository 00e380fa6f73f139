"""A value head: what a state is worth, read from the trunk's last hidden state (arXiv 2405.03553 and 2406.10858)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import linear

from fpa_verl.errors import ConfigError
from fpa_verl.files import atomic_path

# In a folder of its own: vLLM takes every file of that kind beside a model for weights of the model.
FILE = "value_head/weights.safetensors"
DROPOUT = "dropout"


class ValueHead(nn.Module):
    """V = tanh(w . dropout(h) + b), between -1 and 1.

    Weights begin as N(0, initializer_range), the bias as 0: of states with a mean square of 1, V begins with a spread
    of initializer_range sqrt(H).

    Args:
        hidden_size: H, of the trunk.
        dropout: share of h that is dropped in training; 0.1 in the authors' module.
        initializer_range: the trunk's own, as its configuration has it.
        dtype: of its weights; None: torch's default.
    """

    def __init__(
        self,
        hidden_size: int,
        dropout: float = 0.1,
        initializer_range: float = 0.02,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size, 1, dtype=dtype)
        nn.init.normal_(self.linear.weight, std=initializer_range)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Values of hidden states, (..., H) -> (...), in the head's own precision, and in single precision at least.

        Near its ends V has a step of 0.004 in bfloat16, whatever the trunk is computed in.
        """
        precision = torch.promote_types(self.linear.weight.dtype, torch.float32)
        weight, bias = self.linear.weight.to(precision), self.linear.bias.to(precision)
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.tanh(linear(self.dropout(hidden.to(precision)), weight, bias)).squeeze(-1)

    def save(self, folder: Path) -> None:
        """Write the head beside a model in Hugging Face format, atomically."""
        state = {name: value.detach().contiguous() for name, value in self.state_dict().items()}
        (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / FILE) as temporary:
            save_file(state, temporary, metadata={DROPOUT: repr(self.dropout.p)})

    @classmethod
    def load(cls, folder: Path) -> ValueHead:
        """The head that was saved beside a model, to the bit.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        file = folder / FILE
        if not file.is_file():
            raise ConfigError(f"no value head at {file}: name the folder of a model that was trained with one")
        try:
            with safe_open(file, framework="pt") as stored:
                state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                dropout = float(stored.metadata()[DROPOUT])
            head = cls(state["linear.weight"].shape[-1], dropout, dtype=state["linear.weight"].dtype)
            head.load_state_dict(state)
        # RuntimeError: other names or shapes than a head has.
        except (SafetensorError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise ConfigError(f"{file} is damaged ({error}): restore it, or train again") from error
        return head
