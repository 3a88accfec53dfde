"""All promises, the catalog's last. Importing a module registers what it promises."""

from tests.security import (  # noqa: F401
    promises_analytics,
    promises_calculator,
    promises_catalog,
    promises_conversation_again,
    promises_conversation_chats,
    promises_conversation_counting,
    promises_conversation_escape,
    promises_conversation_jobs,
    promises_conversation_keys,
    promises_conversation_leaving,
    promises_conversation_limits,
    promises_conversation_messages,
    promises_conversation_offers,
    promises_conversation_people,
    promises_conversation_rows,
    promises_conversation_unchanging,
    promises_escape,
    promises_granted,
    promises_log,
    promises_reports,
    promises_rights,
    promises_rows,
    promises_sessions,
    promises_unchanging,
    promises_vocabulary_counting,
    promises_vocabulary_escape,
    promises_vocabulary_exports,
    promises_vocabulary_keys,
    promises_vocabulary_people,
    promises_vocabulary_progress,
    promises_vocabulary_rows,
)
from tests.security.registry import PROMISES, Promise

__all__ = ["PROMISES", "Promise"]
