from django.db import migrations

# All that comes before the rows of a batch of calls, in one statement of its transaction. Leases
# are charged before the epoch is entered: whoever waits for a lease keeps no closer waiting. The
# function is volatile, so that its last statement sees what was committed while it waited, and the
# time is the clock's after the wait, since that of the statement may be from before the epoch.
# 0x1F3A0002 is the lock that whoever closes an epoch takes alone.
ENTER = """
CREATE FUNCTION epochs_enter(
    lease_ids uuid[], amounts numeric[], lock_seconds integer,
    OUT number bigint, OUT parameters_version integer, OUT at timestamptz, OUT took uuid[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    ignored text;
BEGIN
    IF lock_seconds IS NOT NULL THEN
        ignored := set_config('lock_timeout', lock_seconds || 's', true);
    END IF;
    took := '{}';
    IF cardinality(lease_ids) > 0 THEN
        took := ledger_charge(lease_ids, amounts);
    END IF;
    PERFORM pg_advisory_xact_lock_shared(x'1F3A0002'::bigint);
    SELECT epoch.number, (SELECT max(version) FROM epochs_parameters)
    INTO epochs_enter.number, epochs_enter.parameters_version
    FROM epochs_epoch epoch WHERE epoch.state = 'open';
    at := clock_timestamp();
END
$$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('epochs', '0002_what_is_sealed_stays'),
        ('ledger', '0003_charge'),
    ]

    operations = [
        migrations.RunSQL(ENTER, "DROP FUNCTION epochs_enter(uuid[], numeric[], integer)"),
    ]
