"""The last line: what the catalog itself must say, for objects that no other promise calls yet."""

from tests.security.objects import OURS
from tests.security.personas import Session
from tests.security.registry import promise


@promise("catalog")
def every_function_pins_its_search_path(s: Session) -> None:
    s.superuser.sees_nothing(
        f"SELECT oid::regprocedure FROM pg_proc WHERE pronamespace IN {OURS}"
        " AND NOT coalesce(proconfig::text LIKE '%search_path=%', false)"
        # A procedure that commits can pin none; it has its caller's rights.
        " AND NOT (prokind = 'p' AND NOT prosecdef)"
    )


@promise("catalog")
def every_table_and_partition_has_row_security(s: Session) -> None:
    s.superuser.sees_nothing(
        f"SELECT oid::regclass FROM pg_class WHERE relnamespace IN {OURS} AND relkind IN ('r', 'p')"
        " AND NOT relrowsecurity"
    )


@promise("catalog")
def every_policy_names_its_roles_and_lets_only_the_service_through_unasked(s: Session) -> None:
    s.superuser.sees_nothing(
        f"SELECT policyname FROM pg_policies WHERE schemaname::regnamespace IN {OURS}"
        " AND (roles = '{public}' OR 'true' IN (qual, with_check) AND roles <> '{service_role}')"
    )
