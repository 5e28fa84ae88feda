"""Short runs side by side that tell whether a network's knowledge of the real world is worth keeping, and by what."""

from synreal.diagnosis.diagnosing import diagnose
from synreal.diagnosis.found import Diagnosis, Estimate, Outcome
from synreal.diagnosis.verdict import Tried, Verdict, judge

__all__ = ["Diagnosis", "Estimate", "Outcome", "Tried", "Verdict", "diagnose", "judge"]
