from django.db import migrations

# A batch and its rows, in one go: one without the other cannot be. A column of the rows is an array,
# and `missed_nodes` one of literals, since an array of arrays would have to be rectangular.
WRITE = """
CREATE FUNCTION gateway_write(
    batch uuid, its_epoch bigint, its_parameters_version integer, its_time timestamptz,
    its_time_us bigint, its_root bytea, its_leaves bytea, its_fees numeric, its_signer text,
    its_signature bytea,
    call_ids uuid[], version_ids uuid[], wallets text[], token_ids uuid[], node_ids uuid[],
    node_names text[], outcomes text[], problem_codes text[], attempts bigint[], fees numeric[],
    latencies_us bigint[], node_latencies_us bigint[], input_digests text[], output_digests text[],
    payout_addresses text[], operator_addresses text[], links boolean[], salts bytea[],
    missed_nodes text[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO gateway_batch (
        id, epoch, root, leaves, count, fees_base_units, time_us, signer, signature
    ) VALUES (
        batch, its_epoch, its_root, its_leaves, cardinality(call_ids), its_fees, its_time_us,
        its_signer, its_signature
    );
    INSERT INTO gateway_call (
        id, version_id, wallet_id, token_id, node_id, node_name, outcome, problem_code, attempts,
        fee_base_units, latency_us, node_latency_us, input_digest, output_digest, payout_address,
        operator_address, linked, salt, missed_nodes, batch_index, batch_id, epoch,
        parameters_version, created_at
    )
    SELECT given.id, given.version, given.wallet, given.token, given.node, given.node_name,
           given.outcome, given.problem_code, given.tries, given.fee, given.latency,
           given.node_latency, given.input_digest, given.output_digest, given.payout,
           given.operator, given.linked, given.salt, given.missed::uuid[], given.place - 1, batch,
           its_epoch, its_parameters_version, its_time
    FROM unnest(
        call_ids, version_ids, wallets, token_ids, node_ids, node_names, outcomes, problem_codes,
        gateway_write.attempts, fees, latencies_us, node_latencies_us, input_digests,
        output_digests, payout_addresses, operator_addresses, links, salts,
        gateway_write.missed_nodes
    ) WITH ORDINALITY AS given (
        id, version, wallet, token, node, node_name, outcome, problem_code, tries, fee, latency,
        node_latency, input_digest, output_digest, payout, operator, linked, salt, missed, place
    );
END
$$;
"""

# All of a batch in one statement, which commits by itself. The batch was signed for an epoch, a
# version of the parameters and a time that its writer could only guess: where they do not hold, or
# a lease does not take its charge, nothing is written and the writer goes the long way. A time is
# never ahead of the clock, so that no call is of a time at which its epoch was closed. Returns the
# clock, by which the writer guesses the next time. Assignments, since they need no plan to be run.
RECORD = """
CREATE FUNCTION gateway_record(
    lease_ids uuid[], amounts numeric[],
    batch uuid, its_epoch bigint, its_parameters_version integer, its_time timestamptz,
    its_time_us bigint, its_root bytea, its_leaves bytea, its_fees numeric, its_signer text,
    its_signature bytea,
    call_ids uuid[], version_ids uuid[], wallets text[], token_ids uuid[], node_ids uuid[],
    node_names text[], outcomes text[], problem_codes text[], attempts bigint[], fees numeric[],
    latencies_us bigint[], node_latencies_us bigint[], input_digests text[], output_digests text[],
    payout_addresses text[], operator_addresses text[], links boolean[], salts bytea[],
    missed_nodes text[]
) RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    entered record;
    ignored text;
BEGIN
    entered := epochs_enter(lease_ids, amounts, NULL);
    IF entered.number IS DISTINCT FROM its_epoch
       OR entered.parameters_version IS DISTINCT FROM its_parameters_version
       OR its_time > entered.at OR its_time <= entered.at - interval '1 second'
       OR cardinality(entered.took) <> cardinality(lease_ids)
    THEN
        RAISE EXCEPTION 'The batch was made for another moment, or a lease is gone.'
            USING ERRCODE = 'IM001';
    END IF;
    ignored := gateway_write(
        batch, its_epoch, its_parameters_version, its_time, its_time_us, its_root, its_leaves,
        its_fees, its_signer, its_signature, call_ids, version_ids, wallets, token_ids, node_ids,
        node_names, outcomes, problem_codes, attempts, fees, latencies_us, node_latencies_us,
        input_digests, output_digests, payout_addresses, operator_addresses, links, salts,
        missed_nodes
    );
    RETURN clock_timestamp();
END
$$;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0003_missed_nodes'),
        ('epochs', '0003_enter'),
    ]

    operations = [
        migrations.RunSQL(WRITE, "DROP FUNCTION gateway_write"),
        migrations.RunSQL(RECORD, "DROP FUNCTION gateway_record"),
    ]
