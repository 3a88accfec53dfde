"""Document 012, third part: opening a report by its token, from the package or from a browser.

Why: the client-side `WHERE access_token = ...` was taken for isolation. Here the database looks the token
up, refuses what is unknown or expired with an error of its own, logs the access and counts it, in one
statement and one transaction. PostgREST publishes both functions with the same checks (its PTxyz codes
become the HTTP status).
"""

from alembic import op

revision = "012_open_report"
down_revision = "012_access_log"
branch_labels = None
depends_on = None

FUNCTIONS = r"""
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

CREATE FUNCTION carnivore.refuse_report(token text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    expired_at timestamptz := (
        SELECT report.expires_at FROM public.generated_reports AS report WHERE report.access_token = token);
BEGIN
    IF expired_at IS NULL THEN
        RAISE EXCEPTION 'no report has this token'
            USING ERRCODE = 'PT404', CONSTRAINT = 'report_not_found';
    END IF;
    RAISE EXCEPTION 'the report has expired'
        USING ERRCODE = 'PT410', CONSTRAINT = 'report_expired',
              DETAIL = to_char(expired_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"');
END
$$;
COMMENT ON FUNCTION carnivore.refuse_report(text) IS 'Raises why a token opens nothing: unknown or expired.';

CREATE FUNCTION public.check_report(token text) RETURNS TABLE (report_id bigint, expires_at timestamptz)
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
COMMENT ON FUNCTION public.check_report(text) IS 'Whether a token opens a report, and until when; logs nothing.';

CREATE FUNCTION public.open_report(token text, ip_address text DEFAULT NULL, user_agent text DEFAULT NULL)
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
COMMENT ON FUNCTION public.open_report(text, text, text) IS 'Reads a report by its token, logs the access and counts it; unknown or expired tokens raise.';

REVOKE ALL ON FUNCTION carnivore.parse_ip(text), carnivore.clean_user_agent(text), carnivore.refuse_report(text),
    public.check_report(text), public.open_report(text, text, text)
    FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION public.check_report(text), public.open_report(text, text, text)
    TO anon, authenticated, service_role;
"""


def upgrade() -> None:
    op.execute(FUNCTIONS)


def downgrade() -> None:
    op.execute("""
        DROP FUNCTION public.open_report(text, text, text);
        DROP FUNCTION public.check_report(text);
        DROP FUNCTION carnivore.refuse_report(text);
        DROP FUNCTION carnivore.clean_user_agent(text);
        DROP FUNCTION carnivore.parse_ip(text);
    """)
