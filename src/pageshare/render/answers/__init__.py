"""Views of the answers: one module for each of ``pageshare.answers``, with its tables and, for the page, its charts.

Terminal, CSV, Parquet and HTML all show these tables, so that no two views differ.
"""
