import django.db.models.deletion
from django.db import migrations, models

import inframind.lib.ids


def give_meters(apps, schema_editor):
    """Tokens from before have no limit, so their meters have none; nothing changes for them."""
    Token = apps.get_model("identity", "Token")
    Meter = apps.get_model("identity", "Meter")
    for token in Token.objects.filter(meter__isnull=True):
        token.meter = Meter.objects.create(id=inframind.lib.ids.new_uuid7())
        if token.models_allowed:
            token.model_scope = "named"
        token.save(update_fields=["meter", "model_scope"])
    # Else the table cannot be altered in the same transaction.
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):

    dependencies = [
        ('identity', '0002_wallets_and_access'),
    ]

    operations = [
        migrations.RunPython(give_meters, migrations.RunPython.noop),
        migrations.AlterField(
            model_name='token',
            name='meter',
            field=models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='tokens', to='identity.meter'),
        ),
        migrations.AddConstraint(
            model_name='token',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('model_scope', 'named'), ('models_allowed__len__gt', 0)), models.Q(models.Q(('model_scope', 'named'), _negated=True), ('models_allowed__len', 0)), _connector='OR'), name='token_names_models_where_it_says_so'),
        ),
        migrations.AddConstraint(
            model_name='token',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'login'), models.Q(('actions__contains', ['account']), _negated=True), _connector='OR'), name='token_scoped_is_not_the_account'),
        ),
    ]
