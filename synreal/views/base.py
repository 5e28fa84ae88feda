"""What a view is: one step on the way from an image to the views of it that a network compares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal, Protocol, get_args, runtime_checkable

from torch import Tensor
from typing_extensions import Self

from synreal.data.sets import ImageSet
from synreal.errors import ConfigError
from synreal.registry import place, vars_of
from synreal.specs import Spec, SpecRegistry

Draws = Literal["each", "once", "further"]
"""How often a view is drawn; see ``View``."""

ImageChange = Callable[[Tensor], Tensor]
"""Changes an image, uint8 (3, H, W), to another; draws from torch's default CPU generator alone."""


class Geometry(Protocol):
    """A geometry that was drawn: the same change for the image, its mask and its boxes."""

    @property
    def before(self) -> tuple[int, int]:
        """Height and width of the image that it is for."""

    @property
    def after(self) -> tuple[int, int]:
        """Height and width that it gives."""

    def __call__(self, value: Any) -> Any:
        """Move an image tensor (3, H, W), or an ``Image``, ``Mask`` or ``BoundingBoxes`` of torchvision's.

        Returns:
            The same kind of thing.
        """


@runtime_checkable
class GeometryDraw(Protocol):
    """Draws geometries from torch's default CPU generator."""

    def draw(self, height: int, width: int) -> Geometry:
        """Draw the geometry of an image of this size, in pixels."""


class View(Spec):
    """The spec of a view: one step on the way from an image to the views of it.

    Subclasses set ``name``, ``summary`` and the two attributes below in their body, add their settings as fields and
    build what is applied.

    Attributes:
        draws: ``"each"``: drawn anew for every view of an image. ``"once"``: drawn once and shared by all views and by
            the label; such steps come first. ``"further"``: drawn anew for every view but the first, which the task
            sees.
        moves: Whether pixels may end up in another place.
        uses_real_images: Whether something of real images goes into views; ``real_images`` then says of which, and the
            protocol of a run that they were used.
    """

    draws: ClassVar[Draws]
    moves: ClassVar[bool]
    uses_real_images: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Check what the class says of itself.

        Raises:
            ConfigError: ``draws`` or ``moves`` is missing or is something else.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in vars(cls) and (
            vars_of(cls, "draws") not in get_args(Draws) or not isinstance(vars_of(cls, "moves"), bool)
        ):
            raise ConfigError(
                f"{place(cls)}: a view says in its body draws = {' or '.join(map(repr, get_args(Draws)))} and moves = "
                "True or False (whether pixels may end up in another place)."
            )

    @property
    def drawn(self) -> Draws:
        """How often it is drawn with these settings; by default what ``draws`` says."""
        return self.draws

    @property
    def moving(self) -> bool:
        """Whether, with these settings, pixels may end up in another place; by default what ``moves`` says."""
        return self.moves

    @property
    def fixed(self) -> bool:
        """Whether an image gives the same view each time."""
        return False

    def dense(self) -> Self:
        """Return what the view becomes where labels say where something is; by default it stays what it is.

        Settings that were given stay (``with_defaults`` sees to it).
        """
        return self

    def real_images(self) -> ImageSet[Any]:
        """Read the real images of which something goes into views; asked for only with ``uses_real_images``.

        Their fingerprint is recorded, and compared when a run is resumed; none of them may be tested on.

        Raises:
            ConfigError: If they are not there.
            DataError: If one of them cannot be used.
        """
        raise ConfigError(f"{place(type(self))} uses real images: it needs a method real_images that returns them.")

    @abstractmethod
    def build(self, size: int | None) -> ImageChange | GeometryDraw:
        """Build what is applied to images.

        Args:
            size: Side of the square that views are to have, in pixels; None leaves it to the image.

        Returns:
            For ``draws = "once"`` something that draws geometries; otherwise something to call on an image, uint8
            (3, H, W), that gives another. Both can be pickled, for workers.

        Raises:
            ConfigError: ``size`` does not fit.
        """


class FurtherView(View):
    """The spec of a view that can leave the first view, which the task sees, as it is.

    Attributes:
        further: Whether it is drawn for every view but the first, as methods want it that compare a clean view with a
            changed one; by default for all.
    """

    draws: ClassVar[Draws] = "each"

    further: bool = False

    @property
    def drawn(self) -> Draws:
        """For every view, or for every view but the first."""
        return "further" if self.further else self.draws


VIEWS: Final[SpecRegistry[View]] = SpecRegistry(
    "view", "views", View, example="randaugment(ops=1, magnitude=6)", texts=("summary", "draws")
)


def described(value: object) -> str:
    """Say what was given instead of an image."""
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} and shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
