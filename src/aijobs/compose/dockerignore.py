"""What is kept out of the image of an app."""

from __future__ import annotations

from aijobs.compose.spec import DeploymentSpec

_IGNORED = """\
# What does not go into the image: it would make it larger, or tell what is nobody's business.

# Secrets, which containers get from their environment. For a certificate that the app needs: !certs/ca.pem
.env
.env.*
**/.env
**/.env.*
**/.envrc
**/*.jks
**/*.key
**/*.p12
**/*.pem
**/*.pfx
**/.netrc
**/.pypirc
**/id_rsa*
**/id_ed25519*
.aws
.ssh
secrets

# History and tools.
**/.git
.gitattributes
.github
.gitignore
.gitlab-ci.yml
.idea
.pre-commit-config.yaml
.vscode

# What is made again elsewhere.
**/*.egg-info
**/*.py[cod]
**/.DS_Store
**/.hypothesis
**/.ipynb_checkpoints
**/.mypy_cache
**/.nox
**/.pytest_cache
**/.ruff_cache
**/.tox
**/.venv
**/__pycache__
**/htmlcov
**/node_modules
**/venv
.aijobs
.coverage*
build
celerybeat-schedule*
dist
env

# Tests.
**/conftest.py
**/test_*.py
**/tests

# How it is deployed.
**/.dockerignore
**/Dockerfile*
Makefile
compose*.yaml
compose*.yml
deploy
docker-compose*.yaml
docker-compose*.yml
"""


def render(spec: DeploymentSpec) -> str:
    """The `.dockerignore`."""
    # A Makefile of another name is none of the app's either.
    return _IGNORED.replace("\nMakefile\n", f"\n{spec.makefile}\n")
