"""The command line of synreal."""
