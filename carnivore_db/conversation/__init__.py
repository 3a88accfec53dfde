"""The role-play chat: people, scenes, sessions, messages and logs (document 20251110150000)."""
