"""What a page of a network shows, as plain values. Where it stands beside another one, each thing is there twice."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synreal.records.history import History
from synreal.records.look import Look
from synreal.records.record import RunRecord, Score


@dataclass(frozen=True)
class Picture:
    """A picture as a file.

    Attributes:
        data: Its bytes.
        media: What they are, e.g. ``"image/png"``.
        width: In pixels.
        height: Likewise.
        alt: What it shows, for those who do not see it.
    """

    data: bytes
    media: str
    width: int
    height: int
    alt: str

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return f"data:{self.media};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Shot:
    """A picture with its caption.

    Attributes:
        picture: The picture.
        name: What it shows, e.g. ``"ground truth"``.
        says: What is to be seen in it; may be empty.
    """

    picture: Picture
    name: str
    says: str


@dataclass(frozen=True)
class Glimpse:
    """What one network makes of one image.

    Attributes:
        words: In words; None if it is not known.
        wrong: The share that is wrong, in [0, 1]; None likewise.
        heat: Where it looks; None if that is not shown.
    """

    words: str | None
    wrong: float | None
    heat: Picture | None = None


@dataclass(frozen=True)
class Example:
    """One image of a set.

    Attributes:
        index: Its place in the set.
        shots: Its pictures.
        glimpses: What each network makes of it.
    """

    index: int
    shots: Sequence[Shot]
    glimpses: Sequence[Glimpse | None]


@dataclass(frozen=True)
class MistakeKind:
    """A kind of mistake.

    Attributes:
        true: The class that was there; None where nothing was.
        found: The class that it was taken for; None where nothing was found.
        counts: Of each network how often it makes it, and of how many of the true class; None where that is not known.
        examples: Images in which the first network makes it.
    """

    true: str | None
    found: str | None
    counts: Sequence[tuple[int, int | None] | None]
    examples: Sequence[Example]


@dataclass(frozen=True)
class SetContents:
    """What is shown of one set of images.

    Attributes:
        name: The set's name.
        scores: Of each network; None where there is none.
        counted: What mistakes are counts of, in the plural; None where they are not shown.
        mistakes: Those that the first network makes most often.
        legend: Colours of classes in its pictures, as ``"#rrggbb"`` by class.
        groups: Images with heat, by what they are called.
    """

    name: str
    scores: Sequence[Score | None]
    counted: str | None
    mistakes: Sequence[MistakeKind]
    legend: Mapping[str, str]
    groups: Mapping[str, Sequence[Example]]


@dataclass(frozen=True)
class Side:
    """One of the networks.

    Attributes:
        look: What looking into it found; its title is the network's.
        record: Of its run; None if there is none.
        is_end: Whether the record's scores are of this network.
    """

    look: Look
    record: RunRecord | None
    is_end: bool

    @property
    def title(self) -> str:
        """What it is called."""
        return self.look.title

    @property
    def scored(self) -> RunRecord | None:
        """The record, if its scores are of this network."""
        return self.record if self.is_end else None


@dataclass(frozen=True)
class Contents:
    """What a page shows.

    Attributes:
        sides: The network, and the one that it stands beside, if there is one.
        sets: By set of images.
        charts: Scores over training.
        histories: The numbers in them, by the title of the network.
        meanings: What each measure says, in a sentence, by name.
        heat_scale: What the colours of heat stand for.
        left_out: What is not shown, and why.
    """

    sides: Sequence[Side]
    sets: Sequence[SetContents]
    charts: Sequence[Picture]
    histories: Mapping[str, History]
    meanings: Mapping[str, str]
    heat_scale: Shot | None
    left_out: Sequence[tuple[str, str]]
