"""The classes of Cityscapes, which GTA5 shares."""

from __future__ import annotations

from typing import Final, NamedTuple


class UrbanClass(NamedTuple):
    """One of the 19 classes that are measured.

    Attributes:
        name: Its name.
        raw_id: Its number in ``labelIds`` files, and in GTA5's.
        colour: Its colour in ``color`` files: red, green, blue.
    """

    name: str
    raw_id: int
    colour: tuple[int, int, int]


CLASSES: Final = (
    UrbanClass("road", 7, (128, 64, 128)),
    UrbanClass("sidewalk", 8, (244, 35, 232)),
    UrbanClass("building", 11, (70, 70, 70)),
    UrbanClass("wall", 12, (102, 102, 156)),
    UrbanClass("fence", 13, (190, 153, 153)),
    UrbanClass("pole", 17, (153, 153, 153)),
    UrbanClass("traffic light", 19, (250, 170, 30)),
    UrbanClass("traffic sign", 20, (220, 220, 0)),
    UrbanClass("vegetation", 21, (107, 142, 35)),
    UrbanClass("terrain", 22, (152, 251, 152)),
    UrbanClass("sky", 23, (70, 130, 180)),
    UrbanClass("person", 24, (220, 20, 60)),
    UrbanClass("rider", 25, (255, 0, 0)),
    UrbanClass("car", 26, (0, 0, 142)),
    UrbanClass("truck", 27, (0, 0, 70)),
    UrbanClass("bus", 28, (0, 60, 100)),
    UrbanClass("train", 31, (0, 80, 100)),
    UrbanClass("motorcycle", 32, (0, 0, 230)),
    UrbanClass("bicycle", 33, (119, 11, 32)),
)
"""In the order of train ids, 0 to 18."""

NAMES: Final = tuple(each.name for each in CLASSES)

TRAIN_IDS: Final = {each.raw_id: index for index, each in enumerate(CLASSES)}
"""Train id by raw id."""

THINGS: Final = tuple(each for each in CLASSES if each.raw_id >= 24)
"""The classes whose objects are told apart, in the same order."""

THING_NAMES: Final = tuple(each.name for each in THINGS)

VOID: Final = {
    0: "unlabeled",
    1: "ego vehicle",
    2: "rectification border",
    3: "out of roi",
    4: "static",
    5: "dynamic",
    6: "ground",
    9: "parking",
    10: "rail track",
    14: "guard rail",
    15: "bridge",
    16: "tunnel",
    18: "polegroup",
    29: "caravan",
    30: "trailer",
}
"""Names by number in ``labelIds`` files of what is not measured; GTA5 has 34, license plate, besides."""

VOID_THINGS: Final = (29, 30)
"""Those of them whose objects are told apart."""

VOID_COLOURS: Final = {
    (0, 0, 0): "unlabeled, ego vehicle, rectification border, out of roi, Cityscapes' static",
    (20, 20, 20): "GTA5's static",
    (111, 74, 0): "dynamic",
    (81, 0, 81): "ground",
    (250, 170, 160): "parking",
    (230, 150, 140): "rail track",
    (180, 165, 180): "guard rail",
    (150, 100, 100): "bridge",
    (150, 120, 90): "tunnel",
    (0, 0, 90): "caravan",
    (0, 0, 110): "trailer",
}
"""Colours of what is not measured. Pole groups have the colour of poles, license plates that of cars."""
