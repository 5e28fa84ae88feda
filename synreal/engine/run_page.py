"""``look_page``: what is known of a network as one HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

from synreal import atomic
from synreal.config import make_config
from synreal.distributed import rank
from synreal.engine import run_folder
from synreal.engine.inspecting import Insight, told_apart
from synreal.engine.look import look_closely
from synreal.engine.page_contents import contents_of
from synreal.engine.plain import Plain
from synreal.errors import ConfigError
from synreal.records.run_page import Contents, as_html
from synreal.terminal import printable

PAGE_FILE: Final = "insight.html"
"""What a page is called where nobody says."""


@dataclass(frozen=True)
class RunPage:
    """A page of a network.

    Attributes:
        html: The page; empty in all processes but the first.
        insights: What looking into the network found, and into the one that it stands beside.
    """

    html: str
    insights: tuple[Insight, ...]

    def write(self, path: str | Path) -> Path:
        """Write the page into a file, in the first process; missing folders are made.

        Raises:
            ConfigError: If it cannot be written.
        """
        path = Path(path)
        if not self.html:
            return path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, self.html)
        except OSError as error:
            raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None
        return path


def look_page(
    what: str | Path | nn.Module,
    measures: Sequence[str] | None = None,
    *,
    against: str | Path | None = None,
    targets: Iterable[str] = (),
    plain: Plain | None = None,
    **settings: Any,
) -> RunPage:
    """Look into a network, and show what was found on one HTML page that needs nothing else.

    The page holds scores, those of each class, curves over training, the most frequent mistakes with pictures, Grad-CAM
    of right and of wrong predictions, and all measures; what cannot be shown it names, with the reason.

    Args:
        what: As of ``look``.
        measures: As of ``look``.
        against: A run folder that stands beside it, on the same images.
        targets: As of ``look_closely``.
        plain: As of ``look_closely``.
        **settings: As of ``look_closely``; ``checkpoint``, ``plain`` and ``frozen`` are of ``what`` alone.

    Returns:
        The page, and what was found.

    Raises:
        SynrealError: As ``look_closely``, and if the other run is of another task.
    """
    found, contents = page_contents(what, measures, against=against, targets=targets, plain=plain, **settings)
    if contents is None:
        return RunPage("", found)
    return RunPage(printable(as_html(contents), lines=True), found)


def page_contents(
    what: str | Path | nn.Module,
    measures: Sequence[str] | None = None,
    *,
    against: str | Path | None = None,
    targets: Iterable[str] = (),
    plain: Plain | None = None,
    **settings: Any,
) -> tuple[tuple[Insight, ...], Contents | None]:
    """Look into a network, and gather what a page shows of it; errors as of ``look_page``.

    Returns:
        What was found, and what the page shows; None in all processes but the first.
    """
    targets = tuple(targets)
    if against is not None:
        _check_against(what, against, plain)
    first = look_closely(what, measures, targets=targets, plain=plain, examines=True, **settings)
    found: list[Insight] = [first]
    if against is not None:
        shared = {key: value for key, value in settings.items() if key not in ("checkpoint", "frozen")}
        theirs = targets or (() if plain is None else (plain.data,))
        follow = {name: one.shown for name, one in first.examined.items()}
        found.append(look_closely(against, measures, targets=theirs, examines=True, follow=follow, **shared))
    places = [what if not isinstance(what, nn.Module) else "in memory", *([against] if against is not None else [])]
    found = told_apart(found, places)
    if rank():  # the first process has the pictures
        return tuple(found), None
    folders = [Path(place) if isinstance(place, (str, Path)) and Path(place).is_dir() else None for place in places]
    return tuple(found), contents_of(found, folders)


def _check_against(what: str | Path | nn.Module, against: str | Path, plain: Plain | None) -> None:
    """Check before data or networks that two networks can stand on one page."""
    other = make_config(run_folder.read(Path(against), "look into").config)
    if plain is not None:
        config = plain.config()
    elif isinstance(what, nn.Module):
        return
    else:
        config = make_config(run_folder.read(Path(what), "look into").config)
    if config.task.name != other.task.name:
        raise ConfigError(
            f"{against} was trained for {other.task.name}, and {what} for {config.task.name}: they cannot stand beside "
            "each other. Name a run of the same task with --against (against=)."
        )
