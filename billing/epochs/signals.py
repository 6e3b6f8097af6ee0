"""What epochs tell the apps above; each carries ``number`` and is sent once its rows are there.

A row is the fact and the signal only the news of it: who misses one finds the row.
"""

from django.dispatch import Signal

epoch_opened = Signal()
epoch_sealed = Signal()
