from setuptools import setup

setup(cffi_modules=["src/pageshare/_build_core.py:ffibuilder"])
