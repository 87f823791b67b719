"""Mistakes of a caller in Python, which scikit-learn asks to be errors of its own kinds too."""

from fewshot.errors import UserError


class InputError(UserError, ValueError):
    """Inputs or labels are not as they must be."""


class NotFittedError(UserError, ValueError, AttributeError):
    """Predictions are asked for before there is a support set."""
