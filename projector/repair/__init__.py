"""Repair: the views compared with PostgreSQL, and made anew from it.

`truth` folds what PostgreSQL has, of measurements (`gather`) and of what retention has taken.
`replica` makes views of it beside those in use. `verify` compares the two, page by page (`pages`,
`compare`); `rebuild` makes them anew and `swap` puts them in place.
"""
