"""All that setuptools is told here: pyproject.toml has the rest."""

from setuptools import setup

setup(cffi_modules=["src/pageshare/_build_core.py:ffibuilder"])
