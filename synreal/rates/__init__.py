"""ASG's learned rates: a policy that sets the learning rate of each group of layers, window by window.

Chen et al., "Automated Synthetic-to-Real Generalization", ICML 2020. Used by the phase ``learned_rates`` and by loops
of your own; nothing here knows a run. What is ours is said where it is.
"""

from synreal.rates.groups import last_weight, rate_groups
from synreal.rates.learned import LearnedRates, window_length
from synreal.rates.policy import GROUPS, SCALARS, SHARES, RatePolicy
from synreal.rates.reinforce import policy_loss, reinforce, returns, rewards

__all__ = [
    "GROUPS",
    "SCALARS",
    "SHARES",
    "LearnedRates",
    "RatePolicy",
    "last_weight",
    "policy_loss",
    "rate_groups",
    "reinforce",
    "returns",
    "rewards",
    "window_length",
]
