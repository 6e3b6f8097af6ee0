"""What payouts tell the apps above, once it is in the books: the rows are the facts."""

from django.dispatch import Signal

# wallet: checksummed address; amount_base_units; event: the row's id.
deposit_credited = Signal()
# kind: an Event.Kind, claimed or withdrawn; account, amount_base_units, event as above.
payout_confirmed = Signal()
