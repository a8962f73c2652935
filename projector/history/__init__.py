"""History: a second projection, of minutes and hours in PostgreSQL, beside the views in Redis.

It is fed the rows that the views have just been given, since those are decoded already, as long as they
follow its own cursor without a gap; else, at a start and after an outage, it reads the outbox. It is lazy:
what comes within a minute is folded in memory, a device and metric to one row, and written when the minute is
over, so that a device costs a row a minute and not one an event.

Its cursor is its row of `projections`, in the same database and moved by the same transaction as its rows:
each event is in history once, whatever is killed or repeated, and a restored database comes back with a
history that fits it. `minutes` folds, `memory` holds what is not over, `store` writes, `recorder` keeps the
cursor's books, `packing` makes small what is over, `audit` compares with the measurements and mends what
differs.
"""
