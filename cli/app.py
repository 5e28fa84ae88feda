"""The `synreal` command."""


def main() -> None:
    """Run the command line."""
