"""Learners' API keys of other services: encrypted in the application, rotated and validated by jobs."""
