"""Gateway: how models are called, and what a call costs."""

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "marketplace.gateway"
    label = "gateway"

    def ready(self) -> None:
        """Hands the calls to the books as what they are there: receipts."""
        from billing.epochs import sources
        from marketplace.gateway.receipts import CallReceipts

        sources.register(CallReceipts())
