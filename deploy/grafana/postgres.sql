-- The role that Grafana reads PostgreSQL with: it can read what the dashboards show, and nothing else.
-- Run it once the database is migrated, as its owner and with the right to create roles; again after an upgrade:
--   psql --file deploy/grafana/postgres.sql, then in psql: \password grafana

DO $$
BEGIN
    CREATE ROLE grafana LOGIN NOINHERIT CONNECTION LIMIT 20;
EXCEPTION
    WHEN duplicate_object THEN NULL;
END
$$;

-- Whatever somebody types into a panel does not run for ever, unless its session says otherwise; a long read would keep old
-- partitions from being dropped. That it cannot write rests on the grants below.
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
ALTER ROLE grafana SET idle_in_transaction_session_timeout = '30s';

-- Everybody may do these unless told otherwise; here only the owner may.
DO $$
BEGIN
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO grafana', current_database());
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- And these, which write large objects; only a superuser may say so.
DO $$
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO grafana;

-- A grant on a partitioned table holds for its partitions, those to come included, when they are read through it.
GRANT SELECT ON measurements, measurements_1m, measurements_1h, regions_1m, regions_1h, devices TO grafana;

-- Not the payload: what was rejected may be anything.
GRANT SELECT (id, received_at, topic, device_id, reason, error, replayed_at) ON dead_letters TO grafana;
