"""Views of a report: each module turns the same figures into one form."""
