from django.apps import AppConfig


class EpochsConfig(AppConfig):
    name = "billing.epochs"
    label = "epochs"
