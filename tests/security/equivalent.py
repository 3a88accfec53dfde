"""Damages that no promise can notice: what is left says the same, or only others at work would meet it."""

import re

# Which damages, "name: operator: what is before [left out] -> [instead]", by regular expressions; and why.
EQUIVALENT = {
    "Others at work: what is locked, in which order, and what is asked again behind a lock.": (
        r"\[PERFORM pg_advisory_xact_lock|\[NOT pg_try_advisory_lock",
        r"\[PERFORM FROM [^]]+ FOR (NO KEY )?UPDATE\]",
        r"^\w+\.update_profile_completion_counts: order: ",
        r"_progress_from_session: conflict: ",
        r"^\w+\.lock_partitioned: .*(parent_first|waited|rank|address|found\.|partdefid|\[\d\] -> )",
        r"^\w+\.delete_old_logs: .*(NOT pg_try|IF \[NOT\]|RETURN \[0\]|locked|timeout|NOWAIT)",
        r"^\w+\.delete_old_logs: .*(lock_partitioned|to_regclass)",
        r"^\w+\.erase_profile: .*PERFORM FROM conversation\.sessions AS s WHERE ",
        r"^\w+\.increment_report_access: .*(added\.alone|report WHERE|SELECT \[min\])",
        r"^\w+\.open_report: condition: .*= 'deferred'\] -> \[false\]",
        r"^\w+\.fold_report_access: selection: .*AS orphan WHERE",
    ),
    "A moment that is exactly this one, or the turn of a week or a day within the transaction.": (
        r"^\w+\.\w+_(report|calculator): comparison: .*expires_at \[>\] -> \[>=\]",
        r"^\w+\.due_log_\w+: comparison: .*\[<=?\] -> \[<=?\]",
        r"^\w+\.begin_session: comparison: .*week_reset_date \[>\] -> \[>=\]",
        r"^\w+\.reset_weekly_limits: comparison: .*week_reset_date \[<=\] -> \[<\]",
        r"^\w+\.prevent_messages_in_completed_sessions: comparison: .*sent_at \[>=\] -> \[>\]",
        r"^\w+\.limit_messages: comparison: .*sent_at \[<\] -> \[<=\]",
        r"^\w+\.limit_messages: literal: .*wait > \[0\]",
        r"(begin_\w+|count_completions|_sizes|_limits|due_\w+): another.*\[now\] -> \[clock",
    ),
    "A setting that was set once in a session is known there for good.": (
        r"current_setting\('[\w.]+'(::text)?, \[true\] -> \[false\]",
        r"set_config\('[\w.]+', .*\[true\] -> \[false\]",
        r"^\w+\.count_due: .*reports_grace', ",
    ),
    "How much at once, and which of two rows of one moment comes first.": (
        r"DEFAULT \[\d+\] -> ",
        r"order: .*\. \[(id|parent|job)\] -> \[\w+ DESC\]",
    ),
    "OLD is NULL where there is none, and no condition on it holds.": (
        r"less of and: .*\[TG_OP (=|IN) [^]]+ AND\] -> \[\]",
    ),
    "The catalog has no such row, and the order of triggers and columns is nobody's.": (
        r"attnum \[>\] -> \[>=\]",
        r"^\w+\.close_partition: .*(tgisinternal|\[tgname\])",
        r"^\w+\.attach_partition: order: .*\[attnum\]",
    ),
    "Whole rows are compared too, and a row that was taken away is copied again.": (
        r"^\w+\.attach_partition: (less of and|comparison|selection): .*AS (spare|prepared) WHERE",
    ),
    "The long way counts the same as the short one; a moment that one comes to is still there.": (
        r"_progress_from_session: condition: .*(\[NOT FOUND\]|\[delta\.taken_away OR .*\]) -> \[true\]",
        r"_progress_from_session: another function: .*(AS day,|HAVING) \[sum\]",
        r"_progress_from_session: literal: .*moved\.way < \[0\]",
    ),
    "A NULL compares with nothing, and a limit that is none lets everything pass.": (
        r"^\w+\.limit_messages: .*(NOT \[FOUND\] -> \[true\]|\[NOT FOUND OR\])",
        r"^\w+\.update_profile_completion_counts: assignment: .*\['\{\}'\] -> \[NULL\]",
        r"(_progress_from_session|\.maintain): assignment: .*\['\{\}'\] -> \[NULL\]",
        r"^\w+\.recognise_archived: .*\[NEW\.client_message_id IS NOT NULL AND\]",
    ),
    "What a COMMIT ends is set again, and promises run without one; a notice is for whoever reads it.": (
        r"\.(maintain|run_job): statement: .*\[PERFORM (pg_catalog\.)?set_config\(",
        r"statement: .*\[RAISE (NOTICE|WARNING|DEBUG) ",
    ),
    "Patience, by chance and for long: how often a lock is asked for, and how long is waited.": (
        r"^\w+\.run_job: .*(tries (\[<\]|< \[20\])|\[AND tries < 20\]|pg_sleep|random\(\)|\[again\])",
    ),
    "Another rule says the same: a constraint, a type, or a column that is never NULL.": (
        r"^\w+\.archive_messages: less of and: .*s\.is_completed",
        r"(count_user_sessions|_progress_from_session): .*coalesce\( ?\[?session\.duration_minutes, ",
        r"^\w+\.run_job: .*(\[state IS NOT NULL OR\]|done = 0( OR)?\]|done (\[=\]|= \[0\]))",
        r"^\w+\.run_job: .*(known\.on_failure IS NOT NULL\]|IF \[state IS NOT NULL\] -> \[true\])",
        r"^\w+\.record_partition_sizes: less of and: .*(relation\.relkind IN|size\.bytes IS NOT NULL)",
        r"^\w+\.partition_plan: order: ",
        r"^\w+\.partition_plan: less of .*(\[AND isfinite|\[w\.rows > 0 AND\]|\[j\.goes OR\])",
        r"^\w+\.partition_plan: comparison: .*(w\.rows \[>\] -> \[>=\]|r\.lower \[>=\] -> \[>\])",
        r"^messages(_archive)?_erased of .*(\[AND \(old\.content <> |old\.content <> \['\[erased)",
        r"^\w+\.derive_duration: unwrapped: .*\[round\(",
        r"^\w+\.limit_messages: (limit|literal): .*LIMIT (1\]|\[1\])",
    ),
}
_ANY = re.compile("|".join(pattern for patterns in EQUIVALENT.values() for pattern in patterns))


def is_equivalent(label: str) -> bool:
    return _ANY.search(label) is not None
