"""Keys of other services: ciphertext or nothing, for everybody, and a new key is not a validated one."""

from tests.security.personas import OTHERS, OWNERS, SERVICES, Session
from tests.security.registry import promise
from tests.security.rows import insertion
from tests.security.rules import CHECK
from tests.security.seed import ADA, BOB, CIPHERTEXT, EVE

TABLE = "vocabulary.user_api_keys"
COLUMNS = ("openai_api_key", "unsplash_api_key", "anthropic_api_key")
OTHER = CIPHERTEXT + "x"
PLAINTEXTS = (
    "sk-proj-0123456789abcdefghijABCDEFGHIJ0123456789",
    "",
    "enc:v1:k:short",
    f"{CIPHERTEXT}\nsk-live",
)
VALIDATED = f"SELECT last_validated_at IS NOT NULL FROM {TABLE} WHERE user_id = '{ADA}'"
OF_ADA = f"UPDATE {TABLE} SET {{}} WHERE user_id = '{ADA}'"


@promise(f"{TABLE} {' '.join(f'{column}_valid' for column in COLUMNS)} rule INSERT UPDATE")
def nobody_stores_a_key_in_the_clear_not_even_the_owner(s: Session) -> None:
    for column in COLUMNS:
        broken = {"sqlstate": CHECK, "constraint": f"{column}_valid"}
        for plaintext in PLAINTEXTS:
            for persona in ("ada", *SERVICES, *OWNERS):
                s.as_(persona).refused(OF_ADA.format(f"{column} = %s"), [plaintext], **broken)
            for persona in ("eve", *SERVICES, *OWNERS):
                s.as_(persona).refused(*insertion(TABLE, **{column: plaintext}), **broken)
            error = s.as_("ada").refused(OF_ADA.format(f"{column} = %s"), [plaintext], **broken)
            assert not plaintext or plaintext not in str(error), "the error shows the key"


@promise(f"{TABLE} SELECT policy service_role")
def a_learner_reads_their_ciphertext_and_nobody_elses(s: Session) -> None:
    s.superuser.allows(f"UPDATE {TABLE} SET openai_api_key = '{OTHER}' WHERE user_id = '{BOB}'")
    for persona, found in (("ada", [CIPHERTEXT]), ("bob", [OTHER]), ("eve", [])):
        assert s.as_(persona).rows(f"SELECT openai_api_key FROM {TABLE}") == [(key,) for key in found]
        look = f"SELECT FROM {TABLE} WHERE openai_api_key = '{OTHER}' AND user_id <> '{BOB}'"
        s.as_(persona).sees_nothing(look)
    for persona in SERVICES:
        assert len(s.as_(persona).rows(f"SELECT FROM {TABLE} WHERE openai_api_key IS NOT NULL")) == 2


@promise(f"{TABLE} trigger_user_api_keys_forget_validation forget_validation")
def a_new_key_forgets_that_the_old_one_was_validated(s: Session) -> None:
    for column in COLUMNS:
        for value in (f"'{OTHER}'", "NULL", f"'{OTHER}', last_validated_at = now()"):
            for persona in ("ada", *SERVICES, *OWNERS):
                if persona == "ada" and "validated" in value:
                    continue
                with s.undone():
                    assert s.superuser.value(VALIDATED) is True
                    s.as_(persona).allows(OF_ADA.format(f"{column} = {value}"), rows=1)
                    assert s.superuser.value(VALIDATED) is False
                    s.as_("service").allows(OF_ADA.format("last_validated_at = now()"), rows=1)
                    # From nothing to a key, too.
                    s.as_(persona).allows(OF_ADA.format(f"{column} = '{CIPHERTEXT}'"), rows=1)
                    assert s.superuser.value(VALIDATED) is False


@promise(f"{TABLE} trigger_user_api_keys_forget_validation UPDATE")
def what_is_not_a_new_key_leaves_the_validation(s: Session) -> None:
    for change in (
        "is_active = false",
        f"openai_api_key = '{CIPHERTEXT}', is_active = true",
        ", ".join(f"{column} = {column}" for column in COLUMNS),
    ):
        for persona in ("ada", *SERVICES):
            s.as_(persona).allows(OF_ADA.format(change), rows=1)
            assert s.superuser.value(VALIDATED) is True


@promise(f"{TABLE} UPDATE INSERT authenticated")
def only_the_service_says_that_keys_are_validated(s: Session) -> None:
    for persona in ("ada", *OTHERS):
        s.as_(persona).refused(f"UPDATE {TABLE} SET last_validated_at = now()")
    for persona in ("eve", *SERVICES):
        s.as_(persona).refused(*insertion(TABLE, last_validated_at="2026-01-01"))


@promise(f"{TABLE} unique_user_api_keys INSERT UPDATE authenticated policy")
def a_learner_stores_keys_once_and_replaces_them(s: Session) -> None:
    s.as_("ada").refused(*insertion(TABLE, user_id=ADA), sqlstate="23505", constraint="unique_user_api_keys")
    statement = (
        f"INSERT INTO {TABLE} (user_id, openai_api_key) VALUES (%s, %s)"
        " ON CONFLICT (user_id) DO UPDATE SET openai_api_key = excluded.openai_api_key"
        " RETURNING unsplash_api_key"
    )
    assert s.as_("ada").rows(statement, [ADA, OTHER]) == [(CIPHERTEXT,)]
    assert s.as_("eve").rows(statement, [EVE, OTHER]) == [(None,)]
    s.as_("bob").refused(statement, [ADA, OTHER])
    s.as_("eve").allows(f"DELETE FROM {TABLE}", rows=1)
