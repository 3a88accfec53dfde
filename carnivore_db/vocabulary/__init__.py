"""The picture-vocabulary app: learners, sessions, progress, API keys, exports (schema `vocabulary`)."""
