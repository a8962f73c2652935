-- Measurements to rebuild the views from (bench/rebuild.py).

-- name: make_partitions
-- The days that `grow_measurements` writes to.
SELECT create_measurement_partitions((now() AT TIME ZONE 'UTC')::date - 2, (now() AT TIME ZONE 'UTC')::date);
