import pytest

import synreal
from synreal.config import make_config
from synreal.core.passes import STUDENT, Pass
from synreal.errors import ConfigError, TrainingError
from synreal.functional import pyramid_consistency
from synreal.regularizers import REGULARIZERS
from tests.regularizers.contract import Toy, batch, captured


@pytest.mark.parametrize("count", [2, 3])
def test_all_views_are_compared_with_gradient(count):
    model = synreal.attach(Toy(), f"pyramid_consistency(stages=[2, 4], sizes=[1, 2], count={count})").train()
    steps = captured(model)
    views = [*batch(0)[:2], batch(1)[0]]
    penalty = model(*views)["penalty"]
    maps = [steps[0].maps[one] for one in (STUDENT, *(Pass("student", view, grad=True) for view in range(1, count)))]
    want = sum(pyramid_consistency([one[stage] for one in maps], (1, 2)) for stage in ("2", "4"))
    assert float(penalty.detach()) == pytest.approx(float(want.detach()), rel=1e-6)
    assert float(penalty.detach()) > 0
    assert model.reference is None
    with pytest.raises(TrainingError, match=f"needs {count} views, got 1"):
        model(views[0])


@pytest.mark.parametrize(("patches", "sizes"), [(8, (1, 2, 4, 8)), (4, (1, 2, 4)), (1, (1,))])
def test_dense_tasks_compare_the_papers_grids(patches, sizes):
    assert REGULARIZERS.spec("pyramid_consistency").dense(patches).sizes == sizes
    assert REGULARIZERS.spec("pyramid_consistency(sizes=[2])").dense(patches).sizes == (2,)


def test_cells_of_views_that_are_not_aligned_are_refused():
    assert make_config({"regularizers": "pyramid_consistency"}).terms[0].sizes == (1,)
    assert make_config({"task": "seg", "regularizers": "pyramid_consistency"}).terms[0].sizes == (1, 2, 4, 8)
    with pytest.raises(ConfigError, match=r"pyramid_consistency compares patches by position, .*\(or sizes=1\)"):
        make_config({"regularizers": "pyramid_consistency(sizes=[1, 2])"})
