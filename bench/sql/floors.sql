-- The floor under PostgreSQL (bench/floors.py).

-- name: bare_table
-- The columns of `measurements` and nothing else: no key, no index, no partition.
CREATE TABLE bare (LIKE measurements);
