"""Train a policy of learning rates, as ASG has one, by many short runs on synthetic images; no target is seen.

python examples/learn_rates.py --episodes 20 --policy policy.safetensors --set regularizers=kl --set epochs=1
synreal run --regularizer kl --phase "learned_rates(policy='policy.safetensors')"

``--config`` takes a YAML file as ``synreal run`` does, ``--set`` a setting of it. A file of a policy that is there is
trained further.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from synreal.config.files import apply_settings, make_config, read_yaml
from synreal.engine import learn_rates


def main(arguments: Sequence[str] | None = None) -> list[float]:
    """Train the policy and return the mean reward of each episode."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--policy", type=Path, default=Path("policy.safetensors"), help="file of the policy")
    options.add_argument("--episodes", type=int, default=20, help="runs, each from the pretrained weights")
    options.add_argument("--config", type=Path, help="YAML file of a run's configuration")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of it")
    options.add_argument("--lr", type=float, default=7e-4, help="learning rate of the policy")
    options.add_argument("--shortest", type=int, default=10, help="steps of the shortest window")
    given = options.parse_args(arguments)
    values = apply_settings({} if given.config is None else read_yaml(given.config), given.set)
    return learn_rates(
        make_config(values),
        given.policy,
        episodes=given.episodes,
        lr=given.lr,
        shortest=given.shortest,
        tell=lambda episode, reward: print(f"episode {episode}: mean reward {reward:.4f}", flush=True),
    )


if __name__ == "__main__":
    main()
