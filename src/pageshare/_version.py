"""The version: pyproject.toml takes it from here, since asking the installed metadata is 20 ms of each start."""

__version__ = "0.1.0"
