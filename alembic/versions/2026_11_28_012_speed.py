"""Opening and checking a report, with less between the token and the row.

Why: document 012 promises a token validated in less than 1 ms, and a report is opened more often than anything else is
done. Measured, half of an open was spent on calls: two helper functions, each with a search path of its own to set and
reset, and a cursor for RETURN QUERY.

Both functions are everybody's now, as the token is what they ask for. A login that belongs to the roles and inherits
nothing calls them without taking a role first: one statement, one commit, one round trip.
"""

from alembic import op

revision = "012_speed"
down_revision = "operations_analytics"
branch_labels = None
depends_on = None

CHECK_REPORT = r"""
CREATE OR REPLACE FUNCTION public.check_report(token text) RETURNS TABLE (report_id bigint, expires_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    SELECT report.id, report.expires_at INTO report_id, expires_at FROM public.generated_reports AS report
    WHERE report.access_token = token AND report.expires_at > statement_timestamp();
    IF NOT FOUND THEN
        PERFORM carnivore.refuse_report(token);
    END IF;
    RETURN NEXT;
END
$$;
"""

OPEN_REPORT = r"""
CREATE OR REPLACE FUNCTION public.open_report(token text, ip_address text DEFAULT NULL, user_agent text DEFAULT NULL)
RETURNS TABLE (report_id bigint, report_html text, created_at timestamptz, expires_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
    address inet;
BEGIN
    IF current_setting('carnivore.access_counting', true) = 'deferred' THEN
        SELECT r.id, r.report_html, r.created_at, r.expires_at INTO report_id, report_html, created_at, expires_at
        FROM public.generated_reports AS r
        WHERE r.access_token = token AND r.expires_at > statement_timestamp();
    ELSE
        -- Locked before the log row's foreign key shares it: a share lock first and an update after it,
        -- from many clients, would build a multixact for each of them.
        SELECT r.id, r.report_html, r.created_at, r.expires_at INTO report_id, report_html, created_at, expires_at
        FROM public.generated_reports AS r
        WHERE r.access_token = token AND r.expires_at > statement_timestamp()
        FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND THEN
        PERFORM carnivore.refuse_report(token);
    END IF;
    -- A browser comes through PostgREST with its headers: there they decide, not what it passes.
    IF headers IS NOT NULL THEN
        ip_address := split_part(headers ->> 'x-forwarded-for', ',', 1);
        user_agent := headers ->> 'user-agent';
    END IF;
    -- Bad client metadata never costs a reader the report.
    BEGIN
        address := btrim(ip_address)::inet;
    EXCEPTION WHEN invalid_text_representation THEN
        address := NULL;
    END;
    user_agent := left(user_agent, 1000);
    INSERT INTO public.report_access_log (report_id, ip_address, user_agent)
    VALUES (report_id, address, CASE WHEN user_agent ~ '\S' THEN user_agent END);
    RETURN NEXT;
END
$$;
"""

RIGHTS = """
REVOKE ALL ON FUNCTION public.check_report(text), public.open_report(text, text, text)
    FROM anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION public.check_report(text), public.open_report(text, text, text) TO PUBLIC;
-- Nobody but open_report could call them.
-- squawk-ignore ban-drop-function
DROP FUNCTION carnivore.parse_ip(text), carnivore.clean_user_agent(text);
"""

BEFORE = r"""
CREATE FUNCTION carnivore.parse_ip(input text) RETURNS inet
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN btrim(input)::inet;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION carnivore.parse_ip(text) IS 'The address, or NULL when it is none: bad client metadata never costs a reader the report.';

CREATE FUNCTION carnivore.clean_user_agent(input text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN left(input, 1000) ~ '\S' THEN left(input, 1000) END
$$;
COMMENT ON FUNCTION carnivore.clean_user_agent(text) IS 'The first 1,000 characters, or NULL when they are blank.';

CREATE OR REPLACE FUNCTION public.check_report(token text) RETURNS TABLE (report_id bigint, expires_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT report.id, report.expires_at FROM public.generated_reports AS report
    WHERE report.access_token = token AND report.expires_at > statement_timestamp();
    IF NOT FOUND THEN
        PERFORM carnivore.refuse_report(token);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION public.open_report(token text, ip_address text DEFAULT NULL, user_agent text DEFAULT NULL)
RETURNS TABLE (report_id bigint, report_html text, created_at timestamptz, expires_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    report record;
    headers jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
BEGIN
    IF current_setting('carnivore.access_counting', true) = 'deferred' THEN
        SELECT r.id, r.report_html, r.created_at, r.expires_at INTO report
        FROM public.generated_reports AS r
        WHERE r.access_token = token AND r.expires_at > statement_timestamp();
    ELSE
        -- Locked before the log row's foreign key shares it: a share lock first and an update after it,
        -- from many clients, would build a multixact for each of them.
        SELECT r.id, r.report_html, r.created_at, r.expires_at INTO report
        FROM public.generated_reports AS r
        WHERE r.access_token = token AND r.expires_at > statement_timestamp()
        FOR NO KEY UPDATE;
    END IF;
    IF NOT FOUND THEN
        PERFORM carnivore.refuse_report(token);
    END IF;
    -- A browser comes through PostgREST with its headers: there they decide, not what it passes.
    IF headers IS NOT NULL THEN
        ip_address := split_part(headers ->> 'x-forwarded-for', ',', 1);
        user_agent := headers ->> 'user-agent';
    END IF;
    INSERT INTO public.report_access_log (report_id, ip_address, user_agent)
    VALUES (report.id, carnivore.parse_ip(ip_address), carnivore.clean_user_agent(user_agent));
    RETURN QUERY SELECT report.id, report.report_html, report.created_at, report.expires_at;
END
$$;

REVOKE ALL ON FUNCTION carnivore.parse_ip(text), carnivore.clean_user_agent(text),
    public.check_report(text), public.open_report(text, text, text)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION public.check_report(text), public.open_report(text, text, text)
    TO anon, authenticated, service_role;
"""


def upgrade() -> None:
    op.execute(CHECK_REPORT)
    op.execute(OPEN_REPORT)
    op.execute(RIGHTS)


def downgrade() -> None:
    op.execute(BEFORE)
