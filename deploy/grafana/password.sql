-- For psql: the password of Grafana's role, from the file that containers have it in.
\set word `cat /run/secrets/grafana_password`
ALTER ROLE grafana PASSWORD :'word';
