"""What a run is told: sections of settings, the recipes beneath them, and the ways to write them down.

No data are read here, and torch is not imported before a regularizer is named.
"""

from synreal.config.files import apply_settings, make_config, read_yaml, with_values
from synreal.config.run_config import RunConfig

__all__ = ["RunConfig", "apply_settings", "make_config", "read_yaml", "with_values"]
