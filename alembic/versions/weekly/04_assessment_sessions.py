"""Document 020: the assessment and its payment.

Why: the document gives this table of personal data no row security at all. Here it is the service's alone.
One Stripe checkout pays one assessment, so the document's partial index on it is unique.
"""

from alembic import op

revision = "020_assessment_sessions"
down_revision = "014_calculator2_sessions"
branch_labels = None
depends_on = None

CW_ASSESSMENT_SESSIONS = r"""
CREATE TABLE public.cw_assessment_sessions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email varchar(255) NOT NULL,
    first_name varchar(100) NOT NULL,
    form_data jsonb NOT NULL,
    payment_status varchar(50) DEFAULT 'pending' NOT NULL,
    stripe_session_id varchar(255),
    stripe_payment_intent_id varchar(255),
    created_at timestamptz DEFAULT now() NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    completed_at timestamptz,
    is_test boolean DEFAULT false NOT NULL,
    CONSTRAINT cw_assessment_sessions_pkey PRIMARY KEY (id),
    CONSTRAINT form_data_is_object CHECK (jsonb_typeof(form_data) = 'object' AND octet_length(form_data::text) <= 262144 AND NOT jsonb_path_exists(form_data, '$.**{65}') AND NOT jsonb_path_exists(form_data, '$.** ? (@ > 1e308 || @ < -1e308)')),
    CONSTRAINT email_format CHECK (email ~ '^[a-z0-9._%+''-]+@([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$'),
    CONSTRAINT first_name_not_empty CHECK (first_name ~ '\S'),
    CONSTRAINT payment_status_valid CHECK (payment_status IN ('pending', 'completed', 'failed', 'refunded')),
    CONSTRAINT completed_at_with_completed CHECK (payment_status <> 'completed' OR completed_at IS NOT NULL)
);
CREATE INDEX idx_cw_assessment_sessions_created_at ON public.cw_assessment_sessions (created_at DESC);
CREATE INDEX idx_cw_assessment_sessions_email ON public.cw_assessment_sessions (email);
CREATE INDEX idx_cw_assessment_sessions_payment_status ON public.cw_assessment_sessions (payment_status);
CREATE UNIQUE INDEX idx_cw_assessment_sessions_stripe_payment_intent_id ON public.cw_assessment_sessions (stripe_payment_intent_id) WHERE stripe_payment_intent_id IS NOT NULL;
CREATE UNIQUE INDEX idx_cw_assessment_sessions_stripe_session_id ON public.cw_assessment_sessions (stripe_session_id) WHERE stripe_session_id IS NOT NULL;
COMMENT ON TABLE public.cw_assessment_sessions IS 'A submitted assessment and its payment (020).';
COMMENT ON COLUMN public.cw_assessment_sessions.id IS 'Identity; the client may choose it, so that a retry is recognised.';
COMMENT ON COLUMN public.cw_assessment_sessions.email IS 'Contact address; stored in lower case.';
COMMENT ON COLUMN public.cw_assessment_sessions.first_name IS 'How the person is addressed.';
COMMENT ON COLUMN public.cw_assessment_sessions.form_data IS 'The whole form, a JSON object of at most 256 KiB.';
COMMENT ON COLUMN public.cw_assessment_sessions.payment_status IS 'pending, completed, failed or refunded.';
COMMENT ON COLUMN public.cw_assessment_sessions.stripe_session_id IS 'Stripe''s checkout session; one checkout pays one assessment.';
COMMENT ON COLUMN public.cw_assessment_sessions.stripe_payment_intent_id IS 'Stripe''s payment intent.';
COMMENT ON COLUMN public.cw_assessment_sessions.created_at IS 'When the form was submitted; never changes.';
COMMENT ON COLUMN public.cw_assessment_sessions.updated_at IS 'When the row last changed; a trigger''s.';
COMMENT ON COLUMN public.cw_assessment_sessions.completed_at IS 'When the payment was completed; set by the database.';
COMMENT ON COLUMN public.cw_assessment_sessions.is_test IS 'Test data: left out of every count.';
"""

RULES = """
COMMENT ON INDEX public.cw_assessment_sessions_pkey IS 'Identity.';
COMMENT ON INDEX public.idx_cw_assessment_sessions_email IS 'Assessments of an address.';
COMMENT ON INDEX public.idx_cw_assessment_sessions_payment_status IS 'Pending and failed payments.';
COMMENT ON INDEX public.idx_cw_assessment_sessions_stripe_session_id IS 'One checkout, one assessment; the webhook looks here.';
COMMENT ON INDEX public.idx_cw_assessment_sessions_created_at IS 'Newest first.';
COMMENT ON INDEX public.idx_cw_assessment_sessions_stripe_payment_intent_id IS 'One payment, one assessment; refunds look here.';

CREATE FUNCTION public.update_cw_assessment_sessions_updated_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION public.update_cw_assessment_sessions_updated_at() IS 'Keeps cw_assessment_sessions.updated_at.';

CREATE FUNCTION carnivore.set_completed_at() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.payment_status = 'completed' AND NEW.completed_at IS NULL THEN
        NEW.completed_at := now();
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.set_completed_at() IS 'Sets completed_at when the payment is completed.';
REVOKE ALL ON FUNCTION public.update_cw_assessment_sessions_updated_at(), carnivore.set_completed_at()
    FROM PUBLIC, anon, authenticated, service_role;

CREATE TRIGGER trigger_cw_assessment_sessions_fold_email BEFORE INSERT OR UPDATE OF email
    ON public.cw_assessment_sessions FOR EACH ROW EXECUTE FUNCTION carnivore.fold_email();
CREATE TRIGGER trigger_cw_assessment_sessions_immutable BEFORE UPDATE OF id, created_at
    ON public.cw_assessment_sessions FOR EACH ROW
    WHEN ((OLD.id, OLD.created_at) IS DISTINCT FROM (NEW.id, NEW.created_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'created_at');
CREATE TRIGGER trigger_cw_assessment_sessions_payment BEFORE UPDATE OF payment_status
    ON public.cw_assessment_sessions FOR EACH ROW EXECUTE FUNCTION carnivore.enforce_payment_transition();
CREATE TRIGGER trigger_cw_assessment_sessions_set_completed_at BEFORE INSERT OR UPDATE OF payment_status
    ON public.cw_assessment_sessions FOR EACH ROW EXECUTE FUNCTION carnivore.set_completed_at();
CREATE TRIGGER trigger_cw_assessment_sessions_updated_at BEFORE UPDATE
    ON public.cw_assessment_sessions FOR EACH ROW
    EXECUTE FUNCTION public.update_cw_assessment_sessions_updated_at();
CREATE TRIGGER trigger_cw_assessment_sessions_paid BEFORE UPDATE OF stripe_session_id, stripe_payment_intent_id
    ON public.cw_assessment_sessions FOR EACH ROW WHEN (OLD.payment_status IN ('completed', 'refunded') AND (
        OLD.stripe_session_id IS NOT NULL AND OLD.stripe_session_id IS DISTINCT FROM NEW.stripe_session_id
        OR OLD.stripe_payment_intent_id IS NOT NULL
            AND OLD.stripe_payment_intent_id IS DISTINCT FROM NEW.stripe_payment_intent_id))
    EXECUTE FUNCTION carnivore.refuse_change('stripe_session_id', 'stripe_payment_intent_id');
COMMENT ON TRIGGER trigger_cw_assessment_sessions_paid ON public.cw_assessment_sessions IS 'What was paid stays known: its refund looks here.';
COMMENT ON TRIGGER trigger_cw_assessment_sessions_fold_email ON public.cw_assessment_sessions IS 'Lower-case addresses.';
COMMENT ON TRIGGER trigger_cw_assessment_sessions_immutable ON public.cw_assessment_sessions IS 'id and created_at never change.';
COMMENT ON TRIGGER trigger_cw_assessment_sessions_payment ON public.cw_assessment_sessions IS 'Allowed payment transitions only.';
COMMENT ON TRIGGER trigger_cw_assessment_sessions_set_completed_at ON public.cw_assessment_sessions IS 'When the payment was completed.';
COMMENT ON TRIGGER trigger_cw_assessment_sessions_updated_at ON public.cw_assessment_sessions IS 'Keeps updated_at.';
"""

SECURITY = """
ALTER TABLE public.cw_assessment_sessions ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.cw_assessment_sessions FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_cw_assessment_sessions ON public.cw_assessment_sessions TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_cw_assessment_sessions ON public.cw_assessment_sessions IS 'The service sees every assessment, nobody else any; its grants say what it may do.';
GRANT SELECT ON public.cw_assessment_sessions TO service_role;
GRANT INSERT (id, email, first_name, form_data, payment_status, stripe_session_id, stripe_payment_intent_id, is_test),
    UPDATE (email, first_name, form_data, payment_status, stripe_session_id, stripe_payment_intent_id, is_test)
    ON public.cw_assessment_sessions TO service_role;
"""


def upgrade() -> None:
    for part in (CW_ASSESSMENT_SESSIONS, RULES, SECURITY):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP TABLE public.cw_assessment_sessions;
        DROP FUNCTION carnivore.set_completed_at();
        DROP FUNCTION public.update_cw_assessment_sessions_updated_at();
    """)
