"""The files that `headwater init` copies into a new project."""
