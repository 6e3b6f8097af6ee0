from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('epochs', '0003_enter'),
    ]

    operations = [
        migrations.AlterField(
            model_name='stream',
            name='subject',
            field=models.CharField(max_length=140),
        ),
        migrations.AddConstraint(
            model_name='stream',
            constraint=models.UniqueConstraint(fields=('subject', 'hidden'), name='stream_once_a_subject'),
        ),
    ]
