import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0006_allow_entries_plural'),
        ('mesh', '0002_reputation'),
    ]

    operations = [
        migrations.CreateModel(
            name='NodeJob',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('call_id', models.UUIDField()),
                ('result', models.CharField(choices=[('served', 'Served'), ('failed', 'Answered with an error or against the schema'), ('late', 'Not answered by the deadline'), ('missed', 'Not answered at all')], max_length=6)),
                ('latency_us', models.PositiveBigIntegerField(null=True)),
                ('excused', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField()),
                ('node', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='jobs', to='mesh.node')),
                ('version', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='catalog.version')),
            ],
            options={
                'indexes': [models.Index(fields=['node', '-created_at'], name='node_job_newest')],
                'constraints': [models.UniqueConstraint(fields=('node', 'call_id'), name='node_job_once_a_call')],
            },
        ),
    ]
