"""Questions that an operator or a developer asks of a scan: one module each, with frozen dataclasses of plain numbers.

They are computed from an ``Inventory`` (which content is where), some from the pages' bytes too. Page counts are in
pages of the scan's ``page_size``. ``render/answers/`` has a module of the same name for each: its tables and charts.
"""
