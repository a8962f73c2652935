-- Which history of which server a stream was last written in: its cluster and timeline, as `gateway/sql/stream.sql` reads them.
-- Null until a gateway has claimed the stream, and for ever where the server does not tell.
ALTER TABLE streams ADD COLUMN cluster text;
