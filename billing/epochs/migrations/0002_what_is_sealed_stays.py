from django.db import migrations

# What was published cannot be taken back: the rows that it was made of change no more.
# TRUNCATE stays possible: it is for empty test databases.
STAYS = """
CREATE FUNCTION epochs_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Rows of % are written once: people are paid by them.', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER parameters_written_once BEFORE UPDATE OR DELETE ON epochs_parameters
    FOR EACH ROW EXECUTE FUNCTION epochs_written_once();
CREATE TRIGGER line_written_once BEFORE UPDATE OR DELETE ON epochs_line
    FOR EACH ROW EXECUTE FUNCTION epochs_written_once();
CREATE TRIGGER stream_written_once BEFORE UPDATE OR DELETE ON epochs_stream
    FOR EACH ROW EXECUTE FUNCTION epochs_written_once();
CREATE TRIGGER tree_written_once BEFORE UPDATE OR DELETE ON epochs_tree
    FOR EACH ROW EXECUTE FUNCTION epochs_written_once();

CREATE FUNCTION epochs_standing_never_falls() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'What % has earned cannot vanish.', OLD.address
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF (NEW.address, NEW.stream_id) <> (OLD.address, OLD.stream_id)
       OR NEW.cumulative_base_units < OLD.cumulative_base_units
       OR NEW.epoch_id <= OLD.epoch_id THEN
        RAISE EXCEPTION 'What % has earned only grows, once an epoch.', OLD.address
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER standing_never_falls BEFORE UPDATE OR DELETE ON epochs_standing
    FOR EACH ROW EXECUTE FUNCTION epochs_standing_never_falls();

CREATE FUNCTION epochs_sealed_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.number <> OLD.number THEN
        RAISE EXCEPTION 'Epoch % cannot be taken back.', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.state <> 'open' AND (NEW.state = 'open' OR NEW.closed_at <> OLD.closed_at) THEN
        RAISE EXCEPTION 'Epoch % is closed: nothing enters it any more.', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    IF OLD.sealed_at IS NOT NULL AND (
        NEW.state IN ('open', 'closing')
        OR (NEW.opened_at, NEW.closed_at, NEW.sealed_at, NEW.batch_count, NEW.receipt_count,
            NEW.revenue_base_units, NEW.receipts_root, NEW.receipts_cid, NEW.root, NEW.tree_cid,
            NEW.leaf_count, NEW.total_base_units)
        IS DISTINCT FROM
           (OLD.opened_at, OLD.closed_at, OLD.sealed_at, OLD.batch_count, OLD.receipt_count,
            OLD.revenue_base_units, OLD.receipts_root, OLD.receipts_cid, OLD.root, OLD.tree_cid,
            OLD.leaf_count, OLD.total_base_units)
    ) THEN
        RAISE EXCEPTION 'Epoch % is sealed: its root is public.', OLD.number
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER epoch_sealed_stays BEFORE UPDATE OR DELETE ON epochs_epoch
    FOR EACH ROW EXECUTE FUNCTION epochs_sealed_stays();
"""
LOOSE = """
DROP TRIGGER epoch_sealed_stays ON epochs_epoch;
DROP FUNCTION epochs_sealed_stays();
DROP TRIGGER standing_never_falls ON epochs_standing;
DROP FUNCTION epochs_standing_never_falls();
DROP TRIGGER tree_written_once ON epochs_tree;
DROP TRIGGER stream_written_once ON epochs_stream;
DROP TRIGGER line_written_once ON epochs_line;
DROP TRIGGER parameters_written_once ON epochs_parameters;
DROP FUNCTION epochs_written_once();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('epochs', '0001_initial'),
    ]

    operations = [
        migrations.RunSQL(STAYS, LOOSE),
    ]
