"""Adds the compiled core to what pyproject.toml says."""

from setuptools import setup

setup(cffi_modules=["src/pageshare/_build_core.py:ffibuilder"])
