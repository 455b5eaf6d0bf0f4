"""An app that ingests documents: FastAPI takes the jobs, Celery runs them, aijobs joins the two."""
