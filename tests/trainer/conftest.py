"""The fixtures of the tests that train."""

from trainings import base_model, make_case, one_thread, place, precision, recorder

__all__ = ["base_model", "make_case", "one_thread", "place", "precision", "recorder"]
