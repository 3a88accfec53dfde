"""Carnivore Weekly: paid diet reports, the calculator and the assessment (schema `public`)."""
