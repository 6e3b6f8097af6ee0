from django.db import migrations, models
from django.db.models import F


def move_allow_lists(apps, schema_editor):
    """What stood in an array of the model becomes one row per wallet; packages from before are
    stored as they were published."""
    Model = apps.get_model("catalog", "Model")
    AllowEntry = apps.get_model("catalog", "AllowEntry")
    AccessPolicy = apps.get_model("catalog", "AccessPolicy")
    Version = apps.get_model("catalog", "Version")
    for model in Model.objects.filter(public=False):
        AllowEntry.objects.bulk_create(
            AllowEntry(model=model, address=address) for address in dict.fromkeys(model.allow_list)
        )
    Model.objects.filter(public=False).update(restricted=True, auth_required=True)
    AccessPolicy.objects.filter(public=False).update(restricted=True, auth_required=True)
    Version.objects.filter(content_cid="").update(content_cid=F("cid"))
    # Else the tables cannot be altered in the same transaction.
    schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0002_wallets_and_access'),
    ]

    operations = [
        migrations.RunPython(move_allow_lists, migrations.RunPython.noop),
        migrations.RemoveField(
            model_name='accesspolicy',
            name='allow_list',
        ),
        migrations.RemoveField(
            model_name='model',
            name='allow_list',
        ),
        migrations.AddConstraint(
            model_name='model',
            constraint=models.CheckConstraint(condition=models.Q(('public', True), ('restricted', True), _connector='OR'), name='model_private_is_restricted'),
        ),
        migrations.AddConstraint(
            model_name='model',
            constraint=models.CheckConstraint(condition=models.Q(('restricted', False), ('auth_required', True), _connector='OR'), name='model_restricted_needs_auth'),
        ),
    ]
