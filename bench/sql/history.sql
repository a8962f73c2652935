-- How far history has come (bench/history.py).

-- name: history_lacks
-- Rows of the outbox that are not in history.
SELECT s.head - coalesce(p.n, 0)
FROM streams AS s LEFT JOIN LATERAL projection_at('history', s.stream) AS p ON true
WHERE s.stream = 0;
