from django.db import migrations

# Two statements in a function that is volatile: the second sees what was committed while the first
# waited for locks. What is live is judged by the clock and not by the statement's time, which is
# the caller's statement's and from before the wait.
CHARGE = """
CREATE FUNCTION ledger_charge(lease_ids uuid[], amounts numeric[]) RETURNS uuid[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment timestamptz;
    took uuid[];
BEGIN
    PERFORM FROM ledger_lease WHERE id = ANY(lease_ids) ORDER BY id FOR NO KEY UPDATE;
    moment := clock_timestamp();
    WITH charged AS (
        UPDATE ledger_lease lease
        SET spent_base_units = lease.spent_base_units + asked.amount
        FROM (
            SELECT id, sum(given.amount) AS amount
            FROM unnest(lease_ids, amounts) AS given (id, amount)
            GROUP BY id
        ) asked
        WHERE lease.id = asked.id AND lease.expires_at > moment
          AND lease.spent_base_units + asked.amount <= lease.amount_base_units
        RETURNING lease.id
    )
    SELECT coalesce(array_agg(id), '{}') INTO took FROM charged;
    RETURN took;
END
$$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('ledger', '0002_books_keep_themselves'),
    ]

    operations = [
        migrations.RunSQL(CHARGE, "DROP FUNCTION ledger_charge(uuid[], numeric[])"),
    ]
