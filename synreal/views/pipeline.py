"""From an image and its label to the views that a network compares, and the label that fits the first of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor

from synreal.errors import ConfigError
from synreal.views.base import VIEWS, Geometry, GeometryDraw, ImageChange


class MovingLabel(Protocol):
    """What a pipeline asks of a kind of label."""

    @property
    def geometric(self) -> bool:
        """Whether labels say where something is, so that they must move with the pixels."""

    def transform(self, label: Any, geometry: Geometry) -> Any:
        """Give a label the geometry that its image got."""


class ViewPipeline:
    """Make the views of an image, step by step, and move its label along.

    Steps with ``draws = "once"`` come first, in their order, and move the label too. Then each view in turn takes the
    others, in their order; the first leaves out those that are drawn for further views alone. Everything is drawn from
    torch's default CPU generator, see ``seeded``.

    Args:
        views: The steps: specs, or what ``VIEWS.specs`` takes for some, such as texts.
        number: How many views, >= 1.
        size: Side of a view in pixels; None leaves it to the image.
        label_kind: The kind of label that moves along; None leaves labels as they are.

    Raises:
        ConfigError: A view is unknown, an argument is out of its range, or labels say where something is and a step
            moves the pixels of each view in its own way.

    Example:
        >>> pipeline = ViewPipeline(["randaugment(ops=2)", "crop"], 2, 64)
        >>> (x0, x1), label = pipeline(torch.zeros(3, 96, 128, dtype=torch.uint8), 5)
        >>> x1.shape, label
        (torch.Size([3, 64, 64]), 5)
    """

    def __init__(self, views: Any, number: int, size: int | None, label_kind: MovingLabel | None = None) -> None:
        _check_number("ViewPipeline", number)
        self.specs = VIEWS.specs(views)
        self.number = number
        self.size = size
        self.label_kind = label_kind
        if label_kind is not None and label_kind.geometric:
            wild = [spec.name for spec in self.specs if spec.moving and spec.drawn == "each"]
            if wild:
                raise ConfigError(
                    f"The view {wild[0]} moves the pixels of each view in its own way, and masks and boxes would no "
                    "longer fit. Use geometry, which moves all views and the label alike, and views that leave pixels "
                    "in their place, such as jitter."
                )
        self._geometries: list[GeometryDraw] = []
        self._steps: list[tuple[int, ImageChange]] = []
        for spec in self.specs:
            built = spec.build(size)
            if spec.drawn == "once":
                if not isinstance(built, GeometryDraw):
                    raise ConfigError(
                        f"The view {spec.name}, drawn once: its build() must return an object with draw(height, width)."
                    )
                self._geometries.append(built)
            elif callable(built):
                self._steps.append((1 if spec.drawn == "further" else 0, built))
            else:
                raise ConfigError(f"The view {spec.name}: its build() must return something to call on an image.")

    @property
    def aligned(self) -> bool:
        """Whether all views share their geometry, so that the same place in two of them shows the same thing."""
        return not any(spec.moving and spec.drawn != "once" for spec in self.specs)

    def __call__(self, image: Tensor, label: Any) -> tuple[tuple[Tensor, ...], Any]:
        """Draw the views of an image.

        Args:
            image: uint8 (3, H, W).
            label: Its label, as ``label_kind`` has it.

        Returns:
            The views, uint8 (3, H', W') each, and the label in the geometry of the first.
        """
        for one in self._geometries:
            height, width = image.shape[-2:]
            geometry = one.draw(height, width)
            image = geometry(image)
            if self.label_kind is not None:
                label = self.label_kind.transform(label, geometry)
        return _drawn(image, self._steps, self.number), label

    def __repr__(self) -> str:
        return f"ViewPipeline({self.specs!r}, {self.number}, {self.size}, {self.label_kind!r})"


class MultiView:
    """Give several independent views of one image.

    Args:
        transform: A random transform of one image.
        views: How many times it is applied to the same image, >= 1.

    Raises:
        ConfigError: ``views`` is not a whole number >= 1, or ``transform`` cannot be called.
    """

    def __init__(self, transform: Callable[[Any], Tensor], views: int = 2) -> None:
        if not callable(transform):
            raise ConfigError(f"MultiView: transform is {transform!r}; expected something to call on an image.")
        _check_number("MultiView", views)
        self.transform = transform
        self.views = views

    def __call__(self, image: Any) -> tuple[Tensor, ...]:
        """Return ``views`` draws of the transform on ``image``, one after the other."""
        return _drawn(image, [(0, self.transform)], self.views)

    def __repr__(self) -> str:
        return f"MultiView({self.transform!r}, views={self.views})"


class AlignedViews:
    """Give several views of one image that share their geometry to the pixel and differ in colour alone.

    The image and its labels are mirrored, resized and cropped once; view 0 keeps its colours, each further view gets a
    colour jitter of its own, as CSG trains segmentation (Chen et al., ICLR 2021, published code).

    Args:
        views: How many, >= 1.
        size: Side of the square crop in pixels; None crops to the size that the image came with.
        flip: As for ``GeometryView``.
        scale: As for ``GeometryView``.
        jitter: Strength of the colour jitter, as for ``JitterView``.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        views: int = 2,
        *,
        size: int | None = None,
        flip: float = 0.0,
        scale: Sequence[float] = (0.75, 1.25),
        jitter: float = 0.4,
    ) -> None:
        geometry = VIEWS.build("geometry", {"flip": flip, "scale": tuple(scale)})
        self.pipeline = ViewPipeline([geometry, VIEWS.build("jitter", {"strength": jitter})], views, size, _Tensors())

    def __call__(self, image: Tensor, labels: Any) -> tuple[tuple[Tensor, ...], Any]:
        """Draw the views.

        Args:
            image: uint8 (3, H, W).
            labels: A ``Mask`` (H, W) or ``BoundingBoxes`` of ``torchvision.tv_tensors``.

        Returns:
            The views, uint8 (3, S, S) each, and the labels in their geometry. Boxes are cut at the border; some may be
            left without an area.
        """
        return self.pipeline(image, labels)

    def __repr__(self) -> str:
        return f"AlignedViews({self.pipeline!r})"


class _Tensors:
    """Labels that torchvision moves by itself."""

    geometric = True

    def transform(self, label: Any, geometry: Geometry) -> Any:
        return geometry(label)


def _check_number(who: str, number: Any) -> None:
    """Raise ``ConfigError`` unless a number of views is a whole number >= 1."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(f"{who}: the number of views is {number!r}; expected a whole number >= 1, e.g. 2.")


def _drawn(image: Any, steps: Iterable[tuple[int, ImageChange]], number: int) -> tuple[Tensor, ...]:
    """Draw views one after the other; each step says from which view on it takes part."""
    views = []
    for index in range(number):
        view = image
        for first, change in steps:
            if index >= first:
                view = change(view)
        views.append(view)
    return tuple(views)
