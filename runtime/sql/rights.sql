-- What roles may do in PostgreSQL (contract/rights.py), as the server sees it.

-- name: missing_rights
-- Of the rights $1 (kinds), $2 (names), $3 (verbs) and $4 (columns, or ''), those that the role of this session does not have: verb and
-- object as GRANT has them. What is not there yet, nobody lacks a right on. The catalogs are asked, which show what is in a schema that
-- one may not look into.
WITH house AS (
    -- Where the tables are that this session finds, which is not its first schema when the role has one of its own; and where they are
    -- that it may not find.
    SELECT n.oid, n.nspname AS name FROM pg_namespace AS n
    WHERE n.nspname = coalesce(
        (SELECT s.nspname FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace WHERE c.oid = to_regclass('schema_migrations')),
        current_schema(),
        (SELECT min(s.nspname::text) FROM pg_class AS c JOIN pg_namespace AS s ON s.oid = c.relnamespace WHERE c.relname = 'schema_migrations'),
        'public')
),
asked AS (
    SELECT
        w.*, h.name AS schema,
        (SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = h.oid AND c.relname = w.name) AS relation,
        (
            -- By the types of its arguments too: another function may have the name. `to_regprocedure` would look into the schema.
            SELECT p.oid FROM pg_proc AS p
            WHERE p.pronamespace = h.oid AND p.proname = split_part(w.name, '(', 1)
                AND oidvectortypes(p.proargtypes) = (
                    SELECT coalesce(string_agg(format_type(to_regtype(btrim(t.name)), NULL), ', ' ORDER BY t.at), '')
                    FROM unnest(string_to_array(rtrim(split_part(w.name, '(', 2), ')'), ',')) WITH ORDINALITY AS t (name, at)
                )
        ) AS function
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS w (kind, name, verb, columns, ord), house AS h
),
parts AS (
    SELECT a.ord, string_agg(i.inhrelid::regclass::text, ', ' ORDER BY i.inhrelid::regclass::text) AS names
    FROM asked AS a JOIN pg_inherits AS i ON i.inhparent = a.relation
    WHERE a.kind = 'DAYS' AND NOT has_table_privilege(i.inhrelid, a.verb)
    GROUP BY a.ord
)
SELECT
    a.verb || CASE WHEN a.columns <> '' THEN format(' (%s)', a.columns) ELSE '' END AS verb,
    CASE a.kind
        WHEN 'TABLE' THEN a.name
        WHEN 'DAYS' THEN p.names
        WHEN 'SCHEMA' THEN format('SCHEMA %I', a.schema)
        WHEN 'DATABASE' THEN format('DATABASE %I', current_database())
        ELSE format('%s %s', a.kind, a.name)
    END AS name
FROM asked AS a LEFT JOIN parts AS p USING (ord)
WHERE CASE a.kind
    WHEN 'TABLE' THEN CASE a.columns
        WHEN '' THEN NOT has_table_privilege(a.relation, a.verb)
        ELSE EXISTS (
            SELECT FROM unnest(string_to_array(a.columns, ', ')) AS c (name) WHERE NOT has_column_privilege(a.relation, c.name, a.verb))
    END
    WHEN 'DAYS' THEN p.names IS NOT NULL
    WHEN 'SEQUENCE' THEN NOT has_sequence_privilege(a.relation, a.verb)
    WHEN 'FUNCTION' THEN NOT has_function_privilege(a.function, a.verb)
    WHEN 'SCHEMA' THEN NOT has_schema_privilege(a.schema, a.verb)
    WHEN 'DATABASE' THEN NOT has_database_privilege(current_database(), a.verb)
END
ORDER BY a.ord;

-- name: our_role
-- The role of this session as GRANT has it.
SELECT quote_ident(current_user);

-- name: absent_tables
-- Which of these tables and views are not there.
SELECT w.name FROM unnest($1::text[]) AS w (name) WHERE to_regclass(w.name) IS NULL ORDER BY 1;

-- name: owners_functions
-- Of the functions that run with their owner's rights, those that anybody may call, as a restore without rights (pg_restore -x) leaves
-- them, and those that look for tables elsewhere than where they stand, as one into another schema does.
SELECT
    format('%I.%I(%s)', n.nspname, p.proname, oidvectortypes(p.proargtypes)) AS name,
    quote_ident(n.nspname) AS schema,
    p.prorettype <> 'trigger'::regtype AND EXISTS (
        SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0
    ) AS is_open,
    NOT coalesce(format('search_path=%I, pg_temp', n.nspname) = ANY (p.proconfig), false) AS is_astray
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.oid = (SELECT c.relnamespace FROM pg_class AS c WHERE c.oid = to_regclass('schema_migrations'))
ORDER BY 1;

-- name: strangers_with_locks
-- Roles that may take the locks by which gateways and projectors know of each other, or hold one now (`pid`), and are none of these
-- nor own the tables. Everybody may, unless the right to call the functions was taken from PUBLIC.
SELECT quote_ident(r.rolname) AS role, held.pid
FROM pg_roles AS r
LEFT JOIN LATERAL (
    SELECT max(a.pid) AS pid FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database() AND a.usesysid = r.oid
) AS held ON true
WHERE r.rolcanlogin AND NOT r.rolsuper
    AND (
        held.pid IS NOT NULL
        OR has_database_privilege(r.oid, current_database(), 'CONNECT')
        AND has_function_privilege(r.oid, 'pg_catalog.pg_advisory_lock(bigint)', 'EXECUTE')
    )
    AND NOT has_table_privilege(r.oid, to_regclass('stream_leases'), 'UPDATE')
    AND NOT has_table_privilege(r.oid, to_regclass('projections'), 'INSERT')
ORDER BY 1;

-- name: lock_functions
-- What takes such locks, as GRANT has it.
SELECT string_agg(p.oid::regprocedure::text, ', ' ORDER BY p.oid::regprocedure::text)
FROM pg_proc AS p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(try_)?advisory_(xact_)?lock';

-- name: strangers_with_keys
-- Roles that could make up rows of the internal topic: they may read what these are signed with, and are neither a gateway, which may
-- write leases, nor a projector, which may report how far it has come.
SELECT quote_ident(r.rolname) FROM pg_roles AS r
WHERE r.rolcanlogin AND NOT r.rolsuper
    AND has_table_privilege(r.oid, to_regclass('stream_keys'), 'SELECT')
    AND NOT has_table_privilege(r.oid, to_regclass('stream_leases'), 'UPDATE')
    AND NOT has_table_privilege(r.oid, to_regclass('projections'), 'INSERT')
ORDER BY 1;
