"""What training saw of the target."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Seen(BaseModel):
    """Real images that a phase trained on.

    Attributes:
        data: Name of the set.
        split: Which part of it.
        fingerprint: SHA-256 over the images and labels of the whole part.
        tested: Whether these are images that are tested on.
        labels: How many labelled images of each class were seen; None if no label was.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    split: str
    fingerprint: str
    tested: bool
    labels: int | None = Field(default=None, ge=1)

    def __str__(self) -> str:
        number = "unlabelled target" if self.labels is None else f"{self.labels} labels a class"
        return f"{number} ({self.data}, {'the test images' if self.tested else self.split})"
