"""Grafana's dashboards as code: `python -m deploy.grafana` writes `dashboards/*.json`.

`sources` says how each data source is asked, `panels` what a panel of ours looks like; `fleet`, `device`,
`regions` and `health` are a dashboard each, and so is `views`, of Redis, which only who has its plugin wants.
SQL is in `sql/dashboards.sql`.
"""
