"""`python -m deploy.grafana`: write the dashboards' JSON from their code."""

from __future__ import annotations

from deploy.grafana.library import FOLDER, rendered

if __name__ == "__main__":
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)
