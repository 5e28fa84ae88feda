"""What a run leaves behind for others to read, and tables of it.

A record carries all that tables need: nothing here knows a measure or a task, and nothing imports torch.
"""

from synreal.records.history import History, SetHistory, find_histories, read_history
from synreal.records.look import INSIGHT_FILE, LOOK_VERSION, Look, Measured, SetLook, read_look
from synreal.records.numbers import (
    Unit,
    as_number,
    bootstrap_interval,
    headline_of,
    mean_and_spread,
    percent,
    with_unit,
    written,
)
from synreal.records.protocols import leaves
from synreal.records.record import (
    SCHEMA_VERSION,
    Change,
    Chosen,
    Cost,
    Protocol,
    RunRecord,
    Score,
    best_epoch,
    label_of,
    read_record,
    record_problem,
    write_json,
)
from synreal.records.seen import Seen
from synreal.records.selection import RULES, Weighed, best_on_target, by_weight, select

__all__ = [
    "INSIGHT_FILE",
    "LOOK_VERSION",
    "RULES",
    "SCHEMA_VERSION",
    "Change",
    "Chosen",
    "Cost",
    "History",
    "Look",
    "Measured",
    "Protocol",
    "RunRecord",
    "Score",
    "Seen",
    "SetHistory",
    "SetLook",
    "Unit",
    "Weighed",
    "as_number",
    "best_epoch",
    "best_on_target",
    "bootstrap_interval",
    "by_weight",
    "find_histories",
    "headline_of",
    "label_of",
    "leaves",
    "mean_and_spread",
    "percent",
    "read_history",
    "read_look",
    "read_record",
    "record_problem",
    "select",
    "with_unit",
    "write_json",
    "written",
]
