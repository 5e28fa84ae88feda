from synreal.errors import unknown_name


def test_few_names_are_all_listed():
    names = [f"net{number}" for number in range(50)]
    text = str(unknown_name("backbone", "nett7", reversed(names)))
    assert text == f"Unknown backbone 'nett7'. Did you mean 'net7'? Known: {', '.join(sorted(names))}."
    assert str(unknown_name("backbone", "anything", [])) == "Unknown backbone 'anything'. Known: none."


def test_of_many_names_the_nearest_are_listed():
    text = str(unknown_name("backbone", "resnet81", [f"net{number}" for number in range(500)] + ["resnet18"]))
    assert text.startswith("Unknown backbone 'resnet81'. Did you mean 'resnet18'? Known: net")
    assert text.endswith("resnet18. These are the nearest of 501.")
    assert len(text.partition("Known: ")[2].split(", ")) == 8
