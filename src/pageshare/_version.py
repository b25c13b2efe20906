"""The version, from the installed distribution's metadata."""

from importlib.metadata import version

__version__ = version("pageshare")
