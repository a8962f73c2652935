-- What the migrations in gateway/migrations/ add up to, for reading. Written by `make schema`.

CREATE FUNCTION public.create_measurement_partitions(first date, last date) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    day date;
    made integer := 0;
    name text;
BEGIN
    FOR day IN SELECT generate_series(first, last, interval '1 day')::date LOOP
        name := 'measurements_p' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF measurements FOR VALUES FROM (%L) TO (%L)',
                name, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            made := made + 1;
        EXCEPTION
            WHEN check_violation OR duplicate_table THEN NULL;
        END;
    END LOOP;
    RETURN made;
END
$$;

CREATE FUNCTION public.turn_dedup(window_length interval) RETURNS boolean
    LANGUAGE plpgsql
    SET lock_timeout TO '2s'
    AS $$
DECLARE
    due boolean;
    older text;
BEGIN
    SELECT turned_at <= now() - window_length, 'message_keys_' || (1 - generation) INTO due, older FROM dedup FOR UPDATE;
    IF due THEN
        EXECUTE format('TRUNCATE %I', older);
        UPDATE dedup SET generation = 1 - generation, turned_at = now();
    END IF;
    RETURN due;
END
$$;

CREATE TABLE public.dead_letters (
    id bigint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    topic text NOT NULL,
    device_id text,
    reason text NOT NULL,
    error text NOT NULL,
    payload bytea NOT NULL,
    replayed_at timestamp with time zone
);

ALTER TABLE public.dead_letters ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.dedup (
    only_row boolean DEFAULT true NOT NULL,
    generation smallint NOT NULL,
    turned_at timestamp with time zone NOT NULL,
    CONSTRAINT dedup_generation_check CHECK ((generation = ANY (ARRAY[0, 1]))),
    CONSTRAINT dedup_only_row_check CHECK (only_row)
);

CREATE TABLE public.devices (
    device_id text NOT NULL,
    region text,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE public.measurements (
    device_id text NOT NULL,
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    region text,
    metrics jsonb NOT NULL
)
PARTITION BY RANGE (ts);

CREATE TABLE public.measurements_default (
    device_id text NOT NULL,
    ts timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    message_key text NOT NULL,
    region text,
    metrics jsonb NOT NULL
);

CREATE TABLE public.message_keys_0 (
    h1 bigint NOT NULL,
    h2 bigint NOT NULL,
    digest bigint NOT NULL
);

CREATE TABLE public.message_keys_1 (
    h1 bigint NOT NULL,
    h2 bigint NOT NULL,
    digest bigint NOT NULL
);

CREATE TABLE public.outbox (
    stream integer NOT NULL,
    n bigint NOT NULL,
    events integer NOT NULL,
    payload bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
ALTER TABLE ONLY public.outbox ALTER COLUMN payload SET COMPRESSION lz4;

CREATE TABLE public.projections (
    projection text NOT NULL,
    stream integer NOT NULL,
    n bigint NOT NULL,
    epoch uuid NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.streams (
    stream integer NOT NULL,
    epoch uuid DEFAULT gen_random_uuid() NOT NULL,
    head bigint DEFAULT 0 NOT NULL,
    published bigint DEFAULT 0 NOT NULL,
    owner uuid,
    owner_name text,
    seen_at timestamp with time zone,
    CONSTRAINT streams_stream_check CHECK ((stream >= 0))
)
WITH (fillfactor='50');

CREATE TABLE public.subscriptions (
    client_id text NOT NULL,
    topic_filter text NOT NULL,
    qos smallint NOT NULL
);

ALTER TABLE ONLY public.measurements ATTACH PARTITION public.measurements_default DEFAULT;

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.dedup
    ADD CONSTRAINT dedup_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (device_id);

ALTER TABLE ONLY public.message_keys_0
    ADD CONSTRAINT message_keys_0_pkey PRIMARY KEY (h1, h2);

ALTER TABLE ONLY public.message_keys_1
    ADD CONSTRAINT message_keys_1_pkey PRIMARY KEY (h1, h2);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (stream, n);

ALTER TABLE ONLY public.projections
    ADD CONSTRAINT projections_pkey PRIMARY KEY (projection, stream);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (stream);

ALTER TABLE ONLY public.subscriptions
    ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (client_id, topic_filter);

CREATE INDEX measurements_device_id_ts ON ONLY public.measurements USING btree (device_id, ts);

CREATE INDEX measurements_default_device_id_ts_idx ON public.measurements_default USING btree (device_id, ts);

ALTER INDEX public.measurements_device_id_ts ATTACH PARTITION public.measurements_default_device_id_ts_idx;

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_stream_fkey FOREIGN KEY (stream) REFERENCES public.streams(stream);

ALTER TABLE ONLY public.projections
    ADD CONSTRAINT projections_stream_fkey FOREIGN KEY (stream) REFERENCES public.streams(stream);
