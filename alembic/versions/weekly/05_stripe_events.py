"""The ledger of Stripe's webhook.

Why: in production the event was written before the work; a crash between made Stripe's retry a "duplicate",
and the payment was lost. Here the event and its effect commit together, and what waits (a refund that came
before its payment) stays visible until it is applied. The documents' webhook needs it, none of them has it.
"""

from alembic import op

revision = "stripe_events"
down_revision = "020_assessment_sessions"
branch_labels = None
depends_on = None

STRIPE_EVENTS = r"""
CREATE TABLE public.stripe_events (
    id varchar(255) NOT NULL,
    type varchar(100) NOT NULL,
    livemode boolean NOT NULL,
    payment_intent varchar(255),
    payload jsonb NOT NULL,
    received_at timestamptz DEFAULT now() NOT NULL,
    processed_at timestamptz,
    -- squawk-ignore prefer-bigint-over-int
    attempts integer DEFAULT 1 NOT NULL, -- a handful in days
    outcome varchar(50) NOT NULL,
    error text,
    session_table varchar(63),
    session_key varchar(63),
    refunded_amount numeric(14, 2),
    CONSTRAINT stripe_events_pkey PRIMARY KEY (id),
    CONSTRAINT event_id_valid CHECK (id ~ '^[A-Za-z0-9_]+$'),
    CONSTRAINT payload_valid CHECK (jsonb_typeof(payload) = 'object' AND octet_length(payload::text) <= 1048576 AND NOT jsonb_path_exists(payload, '$.**{65}') AND NOT jsonb_path_exists(payload, '$.** ? (@ > 1e308 || @ < -1e308)')),
    CONSTRAINT processed_at_in_range CHECK (processed_at >= '2000-01-01 00:00:00+00'::timestamptz AND processed_at < '2100-01-01 00:00:00+00'::timestamptz),
    CONSTRAINT attempts_positive CHECK (attempts > 0),
    CONSTRAINT outcome_valid CHECK (outcome IN ('applied', 'unchanged', 'waiting', 'ignored', 'failed', 'mismatch')),
    CONSTRAINT error_length CHECK (char_length(error) <= 200),
    CONSTRAINT refunded_amount_not_negative CHECK (refunded_amount >= 0),
    CONSTRAINT session_table_with_key CHECK ((session_table IS NULL) = (session_key IS NULL))
);
CREATE INDEX idx_stripe_events_payment_intent ON public.stripe_events (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX idx_stripe_events_session ON public.stripe_events (session_table, session_key);
COMMENT ON TABLE public.stripe_events IS 'Ledger of Stripe''s webhook: an event and its effect commit together.';
COMMENT ON COLUMN public.stripe_events.id IS 'Stripe''s event id, so that a repeat is recognised.';
COMMENT ON COLUMN public.stripe_events.type IS 'Stripe''s event type.';
COMMENT ON COLUMN public.stripe_events.livemode IS 'False for Stripe''s test mode.';
COMMENT ON COLUMN public.stripe_events.payment_intent IS 'The payment that the event is about.';
COMMENT ON COLUMN public.stripe_events.payload IS 'The event as received, a JSON object of at most 1 MiB; carnivore_cut says what was not kept.';
COMMENT ON COLUMN public.stripe_events.received_at IS 'When it first arrived.';
COMMENT ON COLUMN public.stripe_events.processed_at IS 'When its effect was applied or it was set aside; NULL while it waits.';
COMMENT ON COLUMN public.stripe_events.attempts IS 'How often its effect was tried.';
COMMENT ON COLUMN public.stripe_events.outcome IS 'applied, unchanged, waiting, ignored, failed or mismatch.';
COMMENT ON COLUMN public.stripe_events.error IS 'Why: the broken rule, what does not match, or why it is ignored.';
COMMENT ON COLUMN public.stripe_events.session_table IS 'Table of the session that the event is about.';
COMMENT ON COLUMN public.stripe_events.session_key IS 'Primary key of that session, as text.';
COMMENT ON COLUMN public.stripe_events.refunded_amount IS 'Refunded so far in the currency''s main unit, partly or in full.';
"""

RULES = """
COMMENT ON INDEX public.stripe_events_pkey IS 'Stripe''s event id: a repeat is recognised.';
COMMENT ON INDEX public.idx_stripe_events_payment_intent IS 'Events of a payment: its session, and refunds that wait for it.';
COMMENT ON INDEX public.idx_stripe_events_session IS 'Events of a session.';
CREATE TRIGGER trg_stripe_events_immutable
    BEFORE UPDATE OF id, type, livemode, payment_intent, payload, received_at ON public.stripe_events FOR EACH ROW
    WHEN ((OLD.id, OLD.type, OLD.livemode, OLD.payment_intent, OLD.payload, OLD.received_at)
        IS DISTINCT FROM (NEW.id, NEW.type, NEW.livemode, NEW.payment_intent, NEW.payload, NEW.received_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'type', 'livemode', 'payment_intent', 'payload', 'received_at');
COMMENT ON TRIGGER trg_stripe_events_immutable ON public.stripe_events IS 'What Stripe sent never changes; what became of it may.';
"""

SECURITY = """
ALTER TABLE public.stripe_events ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.stripe_events FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_stripe_events ON public.stripe_events TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_stripe_events ON public.stripe_events IS 'The webhook''s own; its grants say what it may do.';
GRANT SELECT ON public.stripe_events TO service_role;
GRANT INSERT (id, type, livemode, payment_intent, payload, processed_at, attempts, outcome, error, session_table, session_key, refunded_amount),
    UPDATE (processed_at, attempts, outcome, error, session_table, session_key, refunded_amount)
    ON public.stripe_events TO service_role;
"""


# What a checkout is to be paid for, noted when it is begun: the webhook compares, and a visitor changes it no more.
CHECKOUTS = """
CREATE TABLE public.begun_checkouts (
    id bigint GENERATED BY DEFAULT AS IDENTITY,
    session_table varchar(63) NOT NULL,
    session_key varchar(63) NOT NULL,
    amount bigint NOT NULL,
    currency varchar(3) NOT NULL,
    tier varchar(50),
    begun_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT begun_checkouts_pkey PRIMARY KEY (id),
    CONSTRAINT amount_in_range CHECK (amount BETWEEN 0 AND 999999999999),
    CONSTRAINT currency_valid CHECK (currency ~ '^[a-z]{3}$'),
    CONSTRAINT session_table_valid CHECK (session_table IN ('user_sessions', 'calculator2_sessions', 'cw_assessment_sessions')),
    CONSTRAINT begun_checkouts_tier_fkey FOREIGN KEY (tier) REFERENCES public.pricing_tiers (code)
);
CREATE INDEX idx_begun_checkouts_session ON public.begun_checkouts (session_table, session_key);
CREATE INDEX idx_begun_checkouts_tier ON public.begun_checkouts (tier);
COMMENT ON TABLE public.begun_checkouts IS 'What a checkout was begun for: a price and a tier that nobody changes under it.';
COMMENT ON COLUMN public.begun_checkouts.id IS 'Identity; the checkout carries it.';
COMMENT ON COLUMN public.begun_checkouts.session_table IS 'Table of the session that is paid for.';
COMMENT ON COLUMN public.begun_checkouts.session_key IS 'Primary key of that session, as text.';
COMMENT ON COLUMN public.begun_checkouts.amount IS 'To be paid, in the currency''s smallest unit, as Stripe counts.';
COMMENT ON COLUMN public.begun_checkouts.currency IS 'Its currency: three lower-case letters.';
COMMENT ON COLUMN public.begun_checkouts.tier IS 'The tier that is sold, of a calculator session.';
COMMENT ON COLUMN public.begun_checkouts.begun_at IS 'When it was begun.';
COMMENT ON INDEX public.begun_checkouts_pkey IS 'Identity.';
COMMENT ON INDEX public.idx_begun_checkouts_session IS 'What was begun for a session.';
COMMENT ON INDEX public.idx_begun_checkouts_tier IS 'Serves the foreign key.';
CREATE TRIGGER trg_begun_checkouts_immutable
    BEFORE UPDATE OF id, session_table, session_key, amount, currency, tier, begun_at ON public.begun_checkouts FOR EACH ROW
    WHEN ((OLD.id, OLD.session_table, OLD.session_key, OLD.amount, OLD.currency, OLD.tier, OLD.begun_at) IS DISTINCT FROM
        (NEW.id, NEW.session_table, NEW.session_key, NEW.amount, NEW.currency, NEW.tier, NEW.begun_at))
    EXECUTE FUNCTION carnivore.refuse_change('id', 'session_table', 'session_key', 'amount', 'currency', 'tier', 'begun_at');
COMMENT ON TRIGGER trg_begun_checkouts_immutable ON public.begun_checkouts IS 'What was begun stays what it was.';

ALTER TABLE public.begun_checkouts ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.begun_checkouts FROM PUBLIC, anon, authenticated, service_role;
CREATE POLICY service_role_begun_checkouts ON public.begun_checkouts TO service_role USING (true) WITH CHECK (true);
COMMENT ON POLICY service_role_begun_checkouts ON public.begun_checkouts IS 'The service begins checkouts; its grants say what it may do.';
GRANT SELECT ON public.begun_checkouts TO service_role;
GRANT INSERT (session_table, session_key, amount, currency, tier) ON public.begun_checkouts TO service_role;
REVOKE ALL ON SEQUENCE public.begun_checkouts_id_seq FROM PUBLIC, anon, authenticated, service_role;

CREATE FUNCTION carnivore.keep_begun_tier() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A tier that a checkout was begun for may be chosen again: what is paid is what counts.
    IF EXISTS (SELECT FROM public.begun_checkouts AS c
            WHERE c.session_table = 'calculator2_sessions' AND c.session_key = NEW.id::text)
        AND NOT EXISTS (SELECT FROM public.begun_checkouts AS c
            WHERE c.session_table = 'calculator2_sessions' AND c.session_key = NEW.id::text AND c.tier = NEW.pricing_tier)
    THEN
        RAISE EXCEPTION 'pricing_tier cannot change any more'
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'immutable',
                  SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'pricing_tier';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION carnivore.keep_begun_tier() IS 'Refuses a tier that no checkout of the session was begun for, once one was.';
REVOKE ALL ON FUNCTION carnivore.keep_begun_tier() FROM PUBLIC, anon, authenticated, service_role;
CREATE TRIGGER trg_calculator2_sessions_begun BEFORE UPDATE OF pricing_tier ON public.calculator2_sessions
    FOR EACH ROW WHEN (OLD.pricing_tier IS DISTINCT FROM NEW.pricing_tier) EXECUTE FUNCTION carnivore.keep_begun_tier();
COMMENT ON TRIGGER trg_calculator2_sessions_begun ON public.calculator2_sessions IS 'The tier does not change under a checkout.';
"""


def upgrade() -> None:
    for part in (STRIPE_EVENTS, RULES, SECURITY, CHECKOUTS):
        op.execute(part)


def downgrade() -> None:
    op.execute("""
        DROP TRIGGER trg_calculator2_sessions_begun ON public.calculator2_sessions;
        DROP FUNCTION carnivore.keep_begun_tier();
        DROP TABLE public.begun_checkouts, public.stripe_events;
    """)
