#!/bin/sh
# Roles, tables and rights in PostgreSQL. Again after an upgrade, and as often as you like.
set -e
$psql --quiet < $folder/postgres/roles.sql
EDGE_POSTGRES_DSN_FILE=$folder/owner/postgres_dsn $gateway migrate --config $folder/edge.toml
$psql --quiet < $folder/postgres/roles.sql
