"""Stripe's webhook and what was sold: verify and apply events, reconcile money with reports."""

from carnivore_db.weekly.models import Outcome
from carnivore_db.weekly.payments.checkouts import begin_checkout
from carnivore_db.weekly.payments.targets import Target, checkout_metadata
from carnivore_db.weekly.payments.webhook import (
    Applied,
    Reconciliation,
    Unsettled,
    apply_event,
    reconcile,
    verify,
)

__all__ = [
    "Applied",
    "Outcome",
    "Reconciliation",
    "Target",
    "Unsettled",
    "apply_event",
    "begin_checkout",
    "checkout_metadata",
    "reconcile",
    "verify",
]
