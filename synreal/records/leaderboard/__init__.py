"""Records as a leaderboard: found, put into rows of one pair and protocol each, and written for people and machines.

A row never stands beside one of another protocol, and what looks at the target never beside what does not. Nothing here
knows a task, a measure or a regularizer, and nothing imports torch.
"""

from synreal.records.leaderboard.board import Board, Section, build
from synreal.records.leaderboard.page import as_html
from synreal.records.leaderboard.reading import Found, find
from synreal.records.leaderboard.rows import Row
from synreal.records.leaderboard.texts import as_csv, as_json, as_markdown

__all__ = ["Board", "Found", "Row", "Section", "as_csv", "as_html", "as_json", "as_markdown", "build", "find"]
