import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

# A table cannot be turned into a partitioned one: it is built beside the old one and takes its name.
# Calls from before there were balances go to epoch 0, which is no epoch of the books: nobody was
# charged for them and no receipt of theirs is signed.
PARTITIONED = """
ALTER TABLE gateway_call RENAME TO gateway_call_before;
ALTER TABLE gateway_call_before RENAME CONSTRAINT call_only_success_costs TO call_before_costs;
ALTER TABLE gateway_call_before RENAME CONSTRAINT call_served_names_node_and_output TO call_before_served;
ALTER INDEX call_version_time RENAME TO call_before_version_time;
ALTER INDEX call_wallet_time RENAME TO call_before_wallet_time;

CREATE TABLE gateway_call (
    id uuid NOT NULL,
    version_id uuid NOT NULL REFERENCES catalog_version (id) DEFERRABLE INITIALLY DEFERRED,
    wallet_id varchar(42) REFERENCES identity_wallet (address) DEFERRABLE INITIALLY DEFERRED,
    token_id uuid,
    node_id uuid REFERENCES mesh_node (id) DEFERRABLE INITIALLY DEFERRED,
    node_name varchar(63) NOT NULL,
    outcome varchar(16) NOT NULL,
    problem_code varchar(40) NOT NULL,
    attempts smallint NOT NULL CHECK (attempts >= 0),
    fee_base_units numeric(78, 0) NOT NULL,
    latency_us bigint NOT NULL CHECK (latency_us >= 0),
    node_latency_us bigint NOT NULL CHECK (node_latency_us >= 0),
    input_digest varchar(71) NOT NULL,
    output_digest varchar(71) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    parameters_version integer NOT NULL CHECK (parameters_version >= 0),
    payout_address varchar(42) NOT NULL,
    operator_address varchar(42) NOT NULL,
    linked boolean NOT NULL,
    salt bytea NOT NULL,
    batch_id uuid NOT NULL,
    batch_index smallint NOT NULL CHECK (batch_index >= 0),
    PRIMARY KEY (id, epoch),
    CONSTRAINT call_only_success_costs
        CHECK (fee_base_units >= 0 AND (outcome = 'served' OR fee_base_units = 0)),
    CONSTRAINT call_served_names_node_and_output
        CHECK (outcome <> 'served' OR (node_name > '' AND output_digest > '')),
    CONSTRAINT call_that_costs_names_its_payer
        CHECK (fee_base_units = 0 OR epoch = 0
               OR (wallet_id IS NOT NULL AND payout_address > '' AND operator_address > ''))
) PARTITION BY LIST (epoch);
CREATE INDEX call_version_time ON gateway_call (version_id, created_at);
CREATE INDEX call_wallet_time ON gateway_call (wallet_id, created_at);
CREATE TABLE gateway_call_0 PARTITION OF gateway_call FOR VALUES IN (0);

INSERT INTO gateway_call
SELECT id, version_id, wallet_id, token_id, node_id, node_name, outcome, problem_code, attempts,
       fee_base_units, latency_us, node_latency_us, input_digest, output_digest, created_at,
       0, 0, '', '', false, '', '00000000-0000-0000-0000-000000000000', 0
FROM gateway_call_before;
DROP TABLE gateway_call_before;
"""


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0001_initial'),
        ('catalog', '0006_allow_entries_plural'),
        ('epochs', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(PARTITIONED, migrations.RunSQL.noop)],
            state_operations=[
                migrations.AddField('call', 'epoch', models.PositiveBigIntegerField(default=0), preserve_default=False),
                migrations.AddField('call', 'parameters_version', models.PositiveIntegerField(default=0), preserve_default=False),
                migrations.AddField('call', 'payout_address', models.CharField(max_length=42, default=''), preserve_default=False),
                migrations.AddField('call', 'operator_address', models.CharField(max_length=42, blank=True, default=''), preserve_default=False),
                migrations.AddField('call', 'linked', models.BooleanField(default=False)),
                migrations.AddField('call', 'salt', models.BinaryField(max_length=16, default=b''), preserve_default=False),
                migrations.AddField('call', 'batch_id', models.UUIDField(default=None), preserve_default=False),
                migrations.AddField('call', 'batch_index', models.PositiveSmallIntegerField(default=0), preserve_default=False),
                migrations.AddConstraint('call', models.CheckConstraint(
                    condition=Q(fee_base_units=0) | Q(epoch=0) | Q(wallet__isnull=False, payout_address__gt='', operator_address__gt=''),
                    name='call_that_costs_names_its_payer',
                )),
            ],
        ),
        migrations.CreateModel(
            name='Batch',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('epoch', models.PositiveBigIntegerField()),
                ('root', models.BinaryField(max_length=32)),
                ('leaves', models.BinaryField()),
                ('count', models.PositiveIntegerField()),
                ('fees_base_units', models.DecimalField(decimal_places=0, max_digits=78)),
                ('time_us', models.PositiveBigIntegerField()),
                ('signer', models.CharField(max_length=42)),
                ('signature', models.BinaryField(max_length=65)),
            ],
            options={
                'verbose_name_plural': 'batches',
                'indexes': [models.Index(fields=['epoch', 'time_us', 'id'], name='batch_of_epoch')],
                'constraints': [models.CheckConstraint(condition=Q(count__gt=0, fees_base_units__gte=0), name='batch_of_something')],
            },
        ),
        migrations.CreateModel(
            name='KeyedCall',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key_digest', models.CharField(max_length=64)),
                ('request_digest', models.CharField(max_length=64)),
                ('call_id', models.UUIDField()),
                ('expires_at', models.DateTimeField()),
                ('served', models.BooleanField(default=False)),
                ('answer_sealed', models.BinaryField(null=True)),
                ('created_at', models.DateTimeField(db_default=Now(), editable=False)),
                ('wallet', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='keyed_calls', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['expires_at'], name='keyed_call_until')],
                'constraints': [
                    models.UniqueConstraint(fields=('wallet', 'key_digest'), name='keyed_call_once'),
                    models.CheckConstraint(condition=Q(served=False, answer_sealed__isnull=True) | Q(served=True, answer_sealed__isnull=False), name='keyed_call_served_has_its_answer'),
                ],
            },
        ),
    ]
