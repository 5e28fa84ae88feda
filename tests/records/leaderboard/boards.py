"""Boards for tests: two pairs, of which one was swept and has two protocols, and one whose names are attacks."""

from synreal.records.leaderboard import Found, build
from tests.records.made import made

ATTACK = "<img src=x onerror=\"alert(1)\"></script><script>document.title='owned'</script>`|*_'"


def found(*runs):
    return [Found(run, f"place {number}") for number, run in enumerate(runs)]


def usual():
    """none, oracle and csg on two pairs: csg helps on one and hurts on the other, and oracle lacks a seed."""
    runs = []
    for source, shift in (("cartoon", 0.08), ("sketch", -0.06)):
        for seed in range(3):
            wobble = 0.01 * seed
            about = {"source": source, "early": 0.72 - wobble, "averaged": 0.76, "peek": 0.8, "shifted": {"blur": 0.7}}
            runs.append(made("none", seed, 0.70 + wobble, **about))
            runs.append(made("csg", seed, 0.70 + shift + 0.5 * wobble, cost={"step_seconds": 0.75}, **about))
            if seed < 2:
                runs.append(made("oracle", seed, 0.71 - wobble, cost={"step_seconds": 0.25}, **about))
    runs += [made("csg", seed, 0.79, weight=1.0, heldout=0.8, shifted={"blur": 0.9}) for seed in range(3)]
    runs += [made(name, 0, 0.9, protocol={"steps": 520}) for name in ("none", "csg")]
    return build(found(*runs))


def hostile():
    """Names of data, network, measure, weights and settings that want to be markup."""
    kinds = {"source": ATTACK, "target": ATTACK, "measure": ATTACK, "config": {ATTACK: ATTACK}}
    runs = [made("none", **kinds), made("csg", regularizer={"stages": ATTACK}, **kinds)]
    change = {"backbone": ATTACK, "weights": {"source": ATTACK, "detail": ATTACK, "sha256": None}}
    return build(found(*(run.model_copy(update=change) for run in runs)))
