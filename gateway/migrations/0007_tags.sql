-- What the topic says of a reading besides its device and region, by the names of the route's template; null when nothing.
ALTER TABLE measurements ADD COLUMN tags jsonb;
