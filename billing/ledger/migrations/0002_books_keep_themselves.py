from django.db import migrations

# The sums on accounts and holds follow from the facts, one UPDATE for each statement that writes
# facts. Accounts are locked in the order of their ids before that, so that two batches which touch
# the same ones wait for each other instead of deadlocking. The plan of a trigger's query is kept
# for the session, whatever the size of the batch that it was made for: hash joins and scans would
# read every account for a single transfer after a large batch, so they are off.
SUMS = """
CREATE FUNCTION ledger_transfers_posted() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM ledger_account
    WHERE id IN (SELECT debit_id FROM fresh UNION SELECT credit_id FROM fresh)
    ORDER BY id FOR NO KEY UPDATE;
    UPDATE ledger_account account
    SET posted_base_units = account.posted_base_units + moved.amount
    FROM (
        SELECT account_id, sum(amount) AS amount
        FROM (
            SELECT debit_id AS account_id, -amount_base_units AS amount FROM fresh
            UNION ALL
            SELECT credit_id, amount_base_units FROM fresh
        ) sides
        GROUP BY account_id
    ) moved
    WHERE account.id = moved.account_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER transfers_posted AFTER INSERT ON ledger_transfer
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT
    EXECUTE FUNCTION ledger_transfers_posted();

CREATE FUNCTION ledger_holds_held() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh WHERE remaining_base_units <> amount_base_units) THEN
        RAISE EXCEPTION 'A hold begins with all of its amount.'
            USING ERRCODE = 'restrict_violation';
    END IF;
    PERFORM FROM ledger_account WHERE id IN (SELECT debit_id FROM fresh)
    ORDER BY id FOR NO KEY UPDATE;
    UPDATE ledger_account account
    SET held_base_units = account.held_base_units + made.amount
    FROM (
        SELECT debit_id, sum(amount_base_units) AS amount FROM fresh GROUP BY debit_id
    ) made
    WHERE account.id = made.debit_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER holds_held AFTER INSERT ON ledger_hold
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT
    EXECUTE FUNCTION ledger_holds_held();

CREATE FUNCTION ledger_holds_ended() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM ledger_account
    WHERE id IN (SELECT debit_id FROM ledger_hold WHERE id IN (SELECT hold_id FROM fresh))
    ORDER BY id FOR NO KEY UPDATE;
    PERFORM FROM ledger_hold WHERE id IN (SELECT hold_id FROM fresh)
    ORDER BY id FOR NO KEY UPDATE;
    UPDATE ledger_hold hold
    SET remaining_base_units = hold.remaining_base_units - ended.amount
    FROM (SELECT hold_id, sum(amount_base_units) AS amount FROM fresh GROUP BY hold_id) ended
    WHERE hold.id = ended.hold_id;
    UPDATE ledger_account account
    SET held_base_units = account.held_base_units - ended.amount
    FROM (
        SELECT hold.debit_id, sum(fresh.amount_base_units) AS amount
        FROM fresh JOIN ledger_hold hold ON hold.id = fresh.hold_id
        GROUP BY hold.debit_id
    ) ended
    WHERE account.id = ended.debit_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER holds_ended AFTER INSERT ON ledger_holdending
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT
    EXECUTE FUNCTION ledger_holds_ended();
"""
SUMS_GONE = """
DROP TRIGGER holds_ended ON ledger_holdending;
DROP FUNCTION ledger_holds_ended();
DROP TRIGGER holds_held ON ledger_hold;
DROP FUNCTION ledger_holds_held();
DROP TRIGGER transfers_posted ON ledger_transfer;
DROP FUNCTION ledger_transfers_posted();
"""

# Facts are written once. A trigger with a list of columns fires only for statements that set one of
# them, so it costs the sums nothing. TRUNCATE stays possible: it is for empty test databases.
WRITTEN_ONCE = """
CREATE FUNCTION ledger_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Rows of % are written once: they are the books.', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER transfer_written_once BEFORE UPDATE OR DELETE ON ledger_transfer
    FOR EACH ROW EXECUTE FUNCTION ledger_written_once();
CREATE TRIGGER hold_ending_written_once BEFORE UPDATE OR DELETE ON ledger_holdending
    FOR EACH ROW EXECUTE FUNCTION ledger_written_once();
CREATE TRIGGER hold_written_once
    BEFORE UPDATE OF id, debit_id, credit_id, amount_base_units, reason, subject, expires_at,
        created_at
    OR DELETE ON ledger_hold
    FOR EACH ROW EXECUTE FUNCTION ledger_written_once();
CREATE TRIGGER account_written_once
    BEFORE UPDATE OF id, code, kind, wallet_id, floor_base_units, created_at
    OR DELETE ON ledger_account
    FOR EACH ROW EXECUTE FUNCTION ledger_written_once();

CREATE FUNCTION ledger_kept_by_triggers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('ledger.rebuilding', true), '') <> 'on' THEN
        RAISE EXCEPTION 'The sums of % are kept by triggers: write a transfer or a hold instead.',
            TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER account_sums_kept
    BEFORE UPDATE OF posted_base_units, held_base_units ON ledger_account
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ledger_kept_by_triggers();
CREATE TRIGGER hold_rest_kept
    BEFORE UPDATE OF remaining_base_units ON ledger_hold
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION ledger_kept_by_triggers();
CREATE TRIGGER account_begins_empty AFTER INSERT ON ledger_account
    FOR EACH ROW WHEN (
        NEW.posted_base_units <> 0 OR NEW.held_base_units <> 0
        OR NEW.leased_base_units <> 0 OR NEW.charged_base_units <> 0
    ) EXECUTE FUNCTION ledger_kept_by_triggers();
"""
REWRITABLE = """
DROP TRIGGER account_begins_empty ON ledger_account;
DROP TRIGGER hold_rest_kept ON ledger_hold;
DROP TRIGGER account_sums_kept ON ledger_account;
DROP FUNCTION ledger_kept_by_triggers();
DROP TRIGGER account_written_once ON ledger_account;
DROP TRIGGER hold_written_once ON ledger_hold;
DROP TRIGGER hold_ending_written_once ON ledger_holdending;
DROP TRIGGER transfer_written_once ON ledger_transfer;
DROP FUNCTION ledger_written_once();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(SUMS, SUMS_GONE),
        migrations.RunSQL(WRITTEN_ONCE, REWRITABLE),
    ]
