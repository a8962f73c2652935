-- For psql, as an administrator of PostgreSQL: before the tables are made and once more when they are. It may be run
-- again at any time. Passwords are not in it, only what the server checks them by.

SELECT format('CREATE ROLE %I', name) FROM unnest(ARRAY[:'owner', :'gateway', :'projector', :'grafana']) AS r (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE :"owner" LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'owner_word';
ALTER ROLE :"gateway" LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'gateway_word';
ALTER ROLE :"projector" LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'projector_word';
ALTER ROLE :"grafana" LOGIN NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 20 PASSWORD :'grafana_word';

-- Whatever somebody types into a panel does not run for ever; that it cannot write rests on the grants.
ALTER ROLE :"grafana" SET default_transaction_read_only = on;
ALTER ROLE :"grafana" SET statement_timeout = '30s';
ALTER ROLE :"grafana" SET idle_in_transaction_session_timeout = '30s';

-- Who is no superuser makes a database for another only as a member of it.
SELECT format('GRANT %I TO CURRENT_USER', :'owner') WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
\gexec
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L', :'database', :'owner', 'UTF8', 'C.UTF-8', 'C.UTF-8')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec
\connect :"database"

-- Nobody else is let in.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Everybody may call what writes large objects, what writes to the log of changes, and what takes the locks by which gateways and
-- projectors know of each other. Only a superuser may change that; `gateway check` says where it is not so.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', p.oid::regprocedure)
FROM pg_proc AS p
WHERE p.pronamespace = 'pg_catalog'::regnamespace
    AND (p.proname IN ('lo_create', 'lo_creat', 'lo_from_bytea', 'pg_logical_emit_message') OR p.proname ~ '^pg_(try_)?advisory_(xact_)?lock')
    AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
\gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::regprocedure, :'gateway')
FROM pg_proc AS p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = 'pg_logical_emit_message'
    AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
\gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I, %I, %I', p.oid::regprocedure, :'owner', :'gateway', :'projector')
FROM pg_proc AS p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(try_)?advisory_(xact_)?lock'
    AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
\gexec

SELECT to_regclass('public.schema_migrations') IS NOT NULL AS migrated \gset
