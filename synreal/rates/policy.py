"""The policy: what it sees, what it draws, and its file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor, nn
from typing_extensions import Self

from synreal import atomic
from synreal.errors import ConfigError
from synreal.reading import read_bytes
from synreal.views import derive_seed

GROUPS: Final = ("0", "1", "2", "3", "4", "head")
"""The groups of layers: the stages, what stands behind the last one counted to it, and all that is fresh."""

SHARES: Final = tuple(action / 10 for action in range(11))
"""What a group may take of the base rate."""

SCALARS: Final = ("loss", "penalty", "progress", "weight mean", "weight std")
"""What a policy sees of a window, beside the shares of the groups."""

_FORMAT = 1
_WIDTH = 20
_MAKER = "synreal.engine.learn_rates"


class RatePolicy(nn.Module):
    """The policy: one LSTM cell for each scalar, and one linear layer for each group.

    Each cell (1 -> 20) begins from zeros at every decision, as in the published code, so the policy has no memory. A
    group's layer (101 -> 11) sees all 100 outputs and its own share. Weights start orthogonal, those of the layers
    times 0.01, and biases at zero, so that all shares are about equally likely at first.

    Args:
        seed: Of the weights.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "rate policy"))
            self.cells = nn.ModuleList(nn.LSTMCell(1, _WIDTH) for _ in SCALARS)
            self.layers = nn.ModuleList(nn.Linear(len(SCALARS) * _WIDTH + 1, len(SHARES)) for _ in GROUPS)
            for name, parameter in self.named_parameters():
                if parameter.ndim < 2:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.orthogonal_(parameter, gain=0.01 if name.startswith("layers") else 1.0)

    def forward(self, observations: Tensor) -> Tensor:
        """Return logits of the shares.

        Args:
            observations: (N, 5 + groups), float32: the scalars, as they are, then the share of each group.

        Returns:
            (N, groups, 11).
        """
        seen = [cell(observations[:, i : i + 1])[0] for i, cell in enumerate(self.cells)]
        shares = observations[:, len(SCALARS) :].split(1, dim=1)
        logits = [layer(torch.cat([*seen, own], 1)) for layer, own in zip(self.layers, shares, strict=True)]
        return torch.stack(logits, 1)

    @torch.no_grad()
    def draw(self, observation: Sequence[float], seed: int) -> list[int]:
        """Draw an action for each group, the same on every machine.

        Args:
            observation: As of ``forward``, (5 + groups,).
            seed: Of the draw.

        Returns:
            Indices into ``SHARES``, by group.
        """
        logits = self(torch.tensor([list(observation)], dtype=torch.float32))[0]
        generator = torch.Generator().manual_seed(seed)
        actions: list[int] = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0].tolist()
        return actions

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        return hashlib.sha256(pack_tensors(dict(self.state_dict()))).hexdigest()

    def save(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write the policy as safetensors.

        Args:
            path: The file.
            facts: How it was trained, for whoever reads it; plain values.

        Raises:
            OSError: If it cannot be written.
        """
        header = {"kind": "rate policy", "format": _FORMAT, "groups": list(GROUPS), "trained": dict(facts or {})}
        atomic.write(path, pack_tensors(dict(self.state_dict()), {"synreal": json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ConfigError: If it cannot be read, or is no such file.
        """
        made = cls()
        try:
            raw = read_bytes(path)
            with safe_open(path, "pt") as file:
                header = json.loads((file.metadata() or {}).get("synreal", "null"))
            if not isinstance(header, dict) or header.get("kind") != "rate policy" or header.get("format") != _FORMAT:
                raise ConfigError(f"{path} is no policy of learning rates of format {_FORMAT}, as {_MAKER} writes one.")
            made.load_state_dict(load_tensors(raw))
        except OSError as error:
            raise ConfigError(f"Cannot read the policy {path}: {error.strerror or error}.") from None
        except (SafetensorError, RuntimeError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} holds no policy of learning rates: {error}. Make one with {_MAKER}.") from None
        if not all(value.isfinite().all() for value in made.state_dict().values()):
            raise ConfigError(f"The policy {path} has weights that are not finite.")
        return made
