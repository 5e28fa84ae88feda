"""From a few short runs to a verdict: keep what the network knows, or not. A pure function of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

MARGIN: Final = 0.02
"""A difference of scores below this, or below what so few images cannot tell apart, counts for nothing."""

Way: TypeAlias = Literal["frozen", "tuned", "half_way", "head_first", "regularizer"]
"""How a network was trained: the head alone on the frozen backbone; plain fine-tuning; fine-tuning, with weights
half-way from its start; the head first and then everything; fine-tuning with a regularizer."""

Advice: TypeAlias = Literal["keep", "free", "unclear"]


@dataclass(frozen=True)
class Tried:
    """What one way of training gave.

    Attributes:
        name: What it is called, e.g. ``"csg"``.
        way: How the network was trained.
        real: Score on real images, or an estimate of it, in [0, 1]; None if it is not known.
        heldout: Score on held-out source; None likewise.
        styles: The mean of its scores in styles that were not trained on; None likewise.
        noise: Twice the standard error of the difference of ``real`` to fine-tuning on the same images; 0 if it is not
            known.
    """

    name: str
    way: Way
    real: float | None
    heldout: float | None = None
    styles: float | None = None
    noise: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes:
        advice: ``"keep"`` what the network knows, by a regularizer; fine-tune ``"free"`` of any; or ``"unclear"``.
        regularizer: What to train with, as a configuration names it.
        reasons: Why, in sentences.
    """

    advice: Advice
    regularizer: str
    reasons: tuple[str, ...]


def judge(tried: Sequence[Tried], *, estimated: bool = False) -> Verdict:
    """Compare ways of training.

    The frozen backbone and regularizers are compared with plain fine-tuning. What the network knows is to be kept if
    one of them is ahead by more than the margin; fine-tuning is to be left free if none is, and one lies behind by
    more.

    Args:
        tried: The ways, fine-tuning among them.
        estimated: Whether ``real`` is estimated without labels.

    Returns:
        The verdict.
    """
    tuned = next(one for one in tried if one.way == "tuned")
    frozen = next((one for one in tried if one.way == "frozen"), None)
    methods = [one for one in tried if one.way == "regularizer"]
    if tuned.real is None:
        return Verdict(
            "unclear",
            "none",
            (
                "No real image was given. Held-out source, in whatever style, does not tell whether knowledge of the "
                "real world was lost: give labelled photos (--target), or photos alone (--photos).",
                *_styles(tuned, methods),
            ),
        )
    best = max((one for one in methods if one.real is not None), key=_real, default=None)
    compared = [one for one in (frozen, best) if one is not None and one.real is not None]
    ahead = [one for one in compared if _gain(one, tuned) > max(MARGIN, one.noise)]
    behind = [one for one in compared if _gain(one, tuned) < -max(MARGIN, one.noise)]
    reasons = [_against(one, tuned, estimated) for one in compared]
    if ahead:
        advice: Advice = "keep"
        reasons.insert(0, "Plain fine-tuning loses what the network knows of the real world.")
        if best is not None and best not in ahead:
            reasons.append(
                f"{best.name} is not clearly ahead after so few steps: compare several weights of it before relying on "
                "it."
            )
    elif behind:
        advice = "free"
        reasons.insert(
            0, "There is more to learn than to lose: more varied renders will bring more than any regularizer here."
        )
    else:
        advice = "unclear"
        reasons.insert(
            0,
            "No difference here is larger than what so few steps and images can tell. Try more steps (--steps), or "
            "more real images.",
        )
    reasons += _others(tried, tuned, estimated)
    reasons += _styles(tuned, methods)
    regularizer = best.name if advice == "keep" and best is not None else "none"
    return Verdict(advice, regularizer, tuple(reasons))


def without_labels(tried: Sequence[Tried], guessed: dict[str, float]) -> list[Tried]:
    """Return the same ways with other scores on real images, by name; those that are not named have none."""
    return [replace(one, real=guessed.get(one.name), noise=0.0) for one in tried]


def _real(one: Tried) -> float:
    assert one.real is not None
    return one.real


def _gain(one: Tried, tuned: Tried) -> float:
    return _real(one) - _real(tuned)


def _against(one: Tried, tuned: Tried, estimated: bool) -> str:
    gain = _gain(one, tuned)
    name = "The frozen backbone" if one.way == "frozen" else one.name
    side = "ahead of" if gain >= 0 else "behind"
    about = "an estimated " if estimated else ""
    sure = f", where {_points(one.noise)} could be chance" if one.noise > abs(gain) else ""
    return (
        f"{name} is {about}{_points(abs(gain))} {side} fine-tuning on real images ({_share(one.real)} against "
        f"{_share(tuned.real)}{sure})."
    )


def _others(tried: Sequence[Tried], tuned: Tried, estimated: bool) -> list[str]:
    """Say of what else there is whether it is better than everything that has been said."""
    compared = [one for one in tried if one.real is not None]
    first = max(compared, key=_real)
    if first.way not in ("half_way", "head_first"):
        return []
    words = {
        "half_way": "Weights half-way between the start and the end of fine-tuning, which cost no training "
        "(--wise-ft 0.5), are",
        "head_first": "Training the head first (--phase head_first --phase train) is",
    }
    about = "by estimate " if estimated else ""
    return [f"{words[first.way]} {about}best of all here: {_share(first.real)}."]


def _styles(tuned: Tried, methods: Sequence[Tried]) -> list[str]:
    """Say what held-out source in other styles would choose: it sees no real image."""
    known = [one for one in (tuned, *methods) if one.styles is not None]
    if len(known) < 2:
        return []
    first = max(known, key=lambda one: one.styles or 0.0)
    name = "plain fine-tuning" if first is tuned else first.name
    return [f"In styles that were not trained on, held-out source is best with {name} ({_share(first.styles)})."]


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _share(value: float | None) -> str:
    return "not known" if value is None else f"{100 * value:.1f} %"
