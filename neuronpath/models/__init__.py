"""A vision transformer as this library sees it."""
